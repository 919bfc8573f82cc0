"""KL to class vectors by hand, its three sources of vectors, and temperature and merged positives."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from meddistill.errors import TeacherError
from meddistill.objectives import class_vector_kl
from meddistill.objectives.affinity_mimicking import AffinityMimicking
from meddistill.objectives.base import RowContext
from meddistill.objectives.class_vector_kl import ClassVectorKL
from meddistill.objectives.similarity_kl import SimilarityKL
from meddistill.records import StudentOutputs, TeacherOutputs, positives

ROWS, DIM = 6, 5
UNIT = functional.normalize


def rows_of(number: int, count: int = ROWS) -> Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(number), dtype=torch.float64)


def student_and_teacher() -> tuple[StudentOutputs, TeacherOutputs]:
    student = StudentOutputs(
        image=rows_of(1).requires_grad_(),
        text=rows_of(2).requires_grad_(),
        logit_scale=torch.tensor(4.0, dtype=torch.float64, requires_grad=True),
    )
    there = torch.ones(ROWS, dtype=torch.bool)
    return student, TeacherOutputs.of_rows(there, image=rows_of(3), text=rows_of(4), logit_scale=6.0)


def context(mask: list[int] | None = None, captions: list[int] | None = None) -> RowContext:
    groups = torch.arange(ROWS)
    texts = groups if captions is None else torch.tensor(captions)
    return RowContext(mask=torch.tensor(mask or [1] * ROWS).bool(), positives=positives(groups, texts))


def divergence(ours: Tensor, theirs: Tensor, temperature: float = 1.0) -> Tensor:
    log_q, p = (ours / temperature).log_softmax(1), (theirs / temperature).softmax(1)
    return temperature**2 * functional.kl_div(log_q, p, reduction="none").sum(1)


def expected(student: StudentOutputs, teacher: TeacherOutputs, vectors: Tensor, temperature: float) -> Tensor:
    theirs = 6.0 * UNIT(teacher.image) @ UNIT(vectors).T
    return divergence(4.0 * UNIT(student.image) @ UNIT(vectors).T, theirs, temperature)


def test_by_hand() -> None:
    """Two classes on the axes, scales 2 and 1: p = (1, e^-2)/(1 + e^-2), q uniform."""
    student = StudentOutputs(
        image=torch.tensor([[3.0, 3.0]]), text=torch.zeros(1, 2), logit_scale=torch.tensor(1.0)
    )
    there = torch.ones(1, dtype=torch.bool)
    teacher = TeacherOutputs.of_rows(there, image=torch.tensor([[5.0, 0.0]]), logit_scale=2.0)
    objective = ClassVectorKL(negatives="bank", bank=torch.tensor([[7.0, 0.0], [0.0, 0.1]]))
    p = torch.tensor([2.0, 0.0]).softmax(0)
    found = objective(student, teacher, RowContext(mask=there, positives=there[:, None]))
    assert found.total.item() == pytest.approx((p * (p / 0.5).log()).sum().item(), rel=1e-6)
    assert found.count.tolist() == [1.0]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_of_the_batch_of_a_bank_and_of_a_queue(temperature) -> None:
    student, teacher = student_and_teacher()
    bank, rows = rows_of(5, 9), context()
    of_batch = ClassVectorKL(temperature=temperature)(student, teacher, rows).total
    torch.testing.assert_close(of_batch, expected(student, teacher, teacher.text, temperature))
    of_bank = ClassVectorKL(negatives="bank", bank=bank, temperature=temperature)
    unread = replace(teacher, text=None, text_available=None)
    torch.testing.assert_close(
        of_bank(student, unread, rows).total, expected(student, teacher, bank, temperature)
    )
    queue = ClassVectorKL(negatives="queue", queue_size=8, dim=DIM, temperature=temperature).double()
    queue.queue.push(UNIT(bank[:3]), torch.tensor([1, 0, 1]).bool())
    together = torch.cat([teacher.text, bank[[0, 2]]])
    torch.testing.assert_close(
        queue(student, teacher, rows).total, expected(student, teacher, together, temperature)
    )
    assert torch.autograd.grad(of_batch.sum(), student.text, allow_unused=True)[0] is None


def test_the_teacher_itself_has_nothing_to_learn_whatever_stands_twice() -> None:
    student, teacher = student_and_teacher()
    same = replace(student, image=teacher.image * 3, logit_scale=torch.tensor(6.0, dtype=torch.float64))
    twice = replace(teacher, text=teacher.text[[0, 1, 1, 3, 1, 5]])
    assert ClassVectorKL()(same, twice, context()).total.abs().max() < 1e-9


def test_a_queue_takes_the_batch_after_the_update_and_forgets_the_oldest() -> None:
    student, teacher = student_and_teacher()
    objective = ClassVectorKL(negatives="queue", queue_size=7, dim=DIM).double()
    first = objective(student, teacher, context([1, 1, 0, 1, 1, 0])).total
    again = objective(student, teacher, context([1, 1, 0, 1, 1, 0])).total
    assert first.equal(again)  # looking changes nothing
    assert not objective.queue.filled.any()
    objective.after_update()
    objective.after_update()  # there is nothing new
    assert objective.queue.filled.tolist() == [True] * 4 + [False] * 3
    kept = UNIT(teacher.text[[0, 1, 3, 4]])
    torch.testing.assert_close(objective.queue.vectors[:4], kept)
    other = replace(teacher, text=rows_of(9))
    objective(student, other, context([1, 1, 1, 1, 1, 0]))
    objective.after_update()
    torch.testing.assert_close(objective.queue.vectors, torch.cat([UNIT(other.text[:5]), kept[:2]]))
    assert set(objective.state_dict()) == {"queue.vectors", "queue.filled"}


def test_a_bank_is_in_no_checkpoint() -> None:
    objective = ClassVectorKL(negatives="bank", bank=rows_of(5, 9))
    assert not objective.state_dict()
    assert not list(objective.parameters())


def test_a_large_bank_is_compared_in_parts(monkeypatch) -> None:
    """Rows by twos: the numbers and gradients of all at once."""
    student, teacher = student_and_teacher()
    objective = ClassVectorKL(negatives="bank", bank=rows_of(5, 9), temperature=2.0)

    def found() -> tuple[Tensor, ...]:
        total = objective(student, teacher, context([1, 0, 1, 1, 1, 1])).total
        gradients = torch.autograd.grad(total.sum(), (student.image, student.logit_scale))
        return (total.detach(), *gradients)

    whole = found()
    shapes: list[torch.Size] = []
    divergence_of = class_vector_kl._divergence

    def watched(*given: Tensor) -> Tensor:
        shapes.append(given[0].shape)
        return divergence_of(*given)

    monkeypatch.setattr(class_vector_kl, "_divergence", watched)
    monkeypatch.setattr(class_vector_kl, "_LOGITS_AT_ONCE", 18)
    torch.testing.assert_close(found(), whole, rtol=1e-12, atol=1e-12)
    assert set(shapes) == {(2, DIM)}
    assert len(shapes) == 6  # three forward, and again backward


@pytest.mark.parametrize("wrong", [{"negatives": "bank"}, {"negatives": "queue"}, {"bank": torch.ones(2, 2)}])
def test_vectors_that_are_missing_or_too_much_are_refused(wrong) -> None:
    with pytest.raises(TeacherError, match="must be given for"):
        ClassVectorKL(**wrong)


@pytest.mark.parametrize("make", [SimilarityKL, AffinityMimicking, ClassVectorKL])
def test_the_square_of_the_temperature_keeps_the_gradients_scale(make) -> None:
    """Without it the gradient would fall by 4 from 500 to 1000; the limit is that of squared logits."""
    student, teacher = student_and_teacher()

    def gradient(temperature: float) -> Tensor:
        total = make(temperature=temperature)(student, teacher, context()).total.sum()
        return torch.autograd.grad(total, student.image)[0]

    at = {temperature: gradient(temperature) for temperature in (1.0, 500.0, 1000.0)}
    torch.testing.assert_close(at[500.0], at[1000.0], rtol=0.02, atol=0.01)
    assert 0.2 < at[1000.0].norm() / at[1.0].norm() < 20


@pytest.mark.parametrize("make", [SimilarityKL, AffinityMimicking])
def test_merged_positives_are_one_event(make) -> None:
    """Rows 0, 3 and 4 show one image under three captions."""
    student, teacher = student_and_teacher()
    groups = torch.tensor([0, 1, 2, 0, 0, 5])
    rows = RowContext(mask=context().mask, positives=positives(groups, torch.arange(ROWS)))
    found = make(merge_positives=True, temperature=2.0)(student, teacher, rows).total
    p = 6.0 / 2 * UNIT(teacher.image) @ UNIT(teacher.text).T
    q = 4.0 / 2 * UNIT(student.image) @ UNIT(student.text).T
    for row in range(ROWS):
        own = rows.positives[row]
        total = 0.0
        for theirs, ours in ((p[row], q[row]), (p[:, row], q[:, row])):
            a, b = (
                torch.cat([each[own].sum()[None], each[~own]])
                for each in (theirs.softmax(0), ours.softmax(0))
            )
            entropy = 0.0 if make is AffinityMimicking else (a * a.log()).sum()
            total += entropy - (a * b.log()).sum()
        torch.testing.assert_close(found[row], 4 * total / 2)
    apart = make(temperature=2.0)(student, teacher, rows).total
    assert (apart[[0, 3, 4]] > found[[0, 3, 4]] + 1e-3).all()


def test_merging_equal_columns_changes_nothing() -> None:
    """Row by row: equal captions in the direction of the texts are one event already."""
    student, teacher = student_and_teacher()
    copied = torch.tensor([0, 1, 0, 3, 0, 5])
    every = torch.arange(6)
    student = replace(student, text=student.text[copied], image=student.image[copied])
    teacher = replace(teacher, text=teacher.text[copied], image=teacher.image[copied])
    rows = RowContext(mask=context().mask, positives=positives(copied, every))
    plain, merged = (SimilarityKL(merge_positives=each)(student, teacher, rows) for each in (False, True))
    torch.testing.assert_close(plain.total, merged.total)


def test_alone_with_its_positives_a_row_has_nothing_to_learn() -> None:
    student, teacher = student_and_teacher()
    rows = context(captions=[0] * ROWS)
    found = SimilarityKL(merge_positives=True)(student, teacher, rows).total
    assert found.abs().max() < 1e-9
    assert torch.autograd.grad(found.sum(), student.image)[0].abs().max() < 1e-9
