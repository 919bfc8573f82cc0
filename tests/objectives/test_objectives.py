"""Properties that every objective has; the registry is walked, so none escapes."""

from dataclasses import replace

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from meddistill.errors import TeacherError
from meddistill.objectives.affinity_mimicking import AffinityMimicking
from meddistill.objectives.augmented_feature_fusion import AugmentedFeatureFusion
from meddistill.objectives.base import Objective, RowContext, TowerStatistics
from meddistill.objectives.class_vector_kl import ClassVectorKL
from meddistill.objectives.config import MASKED
from meddistill.objectives.contrastive import Contrastive
from meddistill.objectives.cosine_smooth_l1 import CosineSmoothL1
from meddistill.objectives.feature_mse import FeatureMSE
from meddistill.objectives.gradient_distillation import GradientDistillation
from meddistill.objectives.interactive_contrastive import PUBLISHED_SCALE, InteractiveContrastive
from meddistill.objectives.masked_feature_distillation import MaskedFeatureDistillation
from meddistill.objectives.registry import STUDENT_OBJECTIVES, TEACHER_OBJECTIVES
from meddistill.objectives.similarity_kl import SimilarityKL
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs, positives
from toy_training import DEVICE

ROWS, DIM = 7, 5
MIXED = torch.eye(DIM) + 0.1  # channels that go together


def statistics() -> dict[str, TowerStatistics]:
    return {
        "image": TowerStatistics(mean=torch.full((DIM,), 0.3), covariance=1.7 * MIXED),
        "text": TowerStatistics(mean=torch.full((DIM,), -0.2), covariance=0.6 * MIXED),
    }


def class_vectors() -> Tensor:
    """The bank of nine texts that a teacher of `DIM` has read."""
    return torch.randn(9, DIM, generator=torch.Generator().manual_seed(8), dtype=torch.float64)


def filled_queue() -> ClassVectorKL:
    objective = ClassVectorKL(negatives="queue", queue_size=5, dim=DIM).double()
    objective.queue.push(functional.normalize(class_vectors()[:3]), torch.tensor([True, False, True]))
    return objective


CASES = {
    "contrastive": Contrastive(),
    "contrastive as published": Contrastive(as_published=True),
    "feature_mse": FeatureMSE(),
    "feature_mse, targets as stored": FeatureMSE(normalize_targets=False),
    "cosine_smooth_l1": CosineSmoothL1(),
    "cosine_smooth_l1 standardised": CosineSmoothL1(features="standardized", statistics=statistics()),
    "cosine_smooth_l1 whitened": CosineSmoothL1(
        features="whitened", statistics=statistics(), components=DIM - 1
    ),
    "similarity_kl": SimilarityKL(),
    "similarity_kl, own scale": SimilarityKL(teacher_scale=3.0),
    "similarity_kl, warm and merged": SimilarityKL(temperature=3.0, merge_positives=True),
    "class_vector_kl": ClassVectorKL(temperature=2.0),
    "class_vector_kl, bank": ClassVectorKL(negatives="bank", bank=class_vectors(), teacher_scale=3.0),
    "class_vector_kl, queue": filled_queue(),
    "interactive_contrastive": InteractiveContrastive(),
    "interactive_contrastive as published": InteractiveContrastive(as_published=True),
    "affinity_mimicking": AffinityMimicking(),
    "affinity_mimicking, warm and merged": AffinityMimicking(temperature=3.0, merge_positives=True),
    "affinity_mimicking, own scale": AffinityMimicking(teacher_scale=3.0),
    "gradient_distillation": GradientDistillation(),
    "gradient_distillation, own scale": GradientDistillation(teacher_scale=3.0),
    "gradient_distillation as published": GradientDistillation(as_published=True),
    "masked_feature_distillation": MaskedFeatureDistillation(),
    "augmented_feature_fusion": AugmentedFeatureFusion(student_dim=DIM, teacher_dim=DIM, seed=0),
}
every_objective = pytest.mark.parametrize("objective", CASES.values(), ids=CASES.keys())


def example(*, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[StudentOutputs, TeacherOutputs]:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(ROWS, DIM, generator=generator, dtype=torch.float64).to(DEVICE, dtype)

    student = StudentOutputs(
        image=draw().requires_grad_(),
        text=draw().requires_grad_(),
        logit_scale=torch.tensor(4.0, dtype=dtype, device=DEVICE, requires_grad=True),
        passes={MASKED: draw().requires_grad_()},
    )
    available = torch.ones(ROWS, dtype=torch.bool, device=DEVICE)
    return student, TeacherOutputs.of_rows(available, image=draw(), text=draw(), logit_scale=6.0)


def context(mask: list[int] | None = None, captions: list[int] | None = None) -> RowContext:
    groups = torch.arange(ROWS, device=DEVICE)
    texts = groups if captions is None else torch.tensor(captions, device=DEVICE)
    keep = torch.tensor(mask or [1] * ROWS, device=DEVICE).bool()
    return RowContext(mask=keep, positives=positives(groups, texts))


def run(objective, student: StudentOutputs, teacher: TeacherOutputs, rows: RowContext) -> RowLosses:
    objective = objective.to(DEVICE)
    return objective(student, teacher, rows) if isinstance(objective, Objective) else objective(student, rows)


def gradients(losses: RowLosses, student: StudentOutputs) -> list[Tensor]:
    inputs = [student.image, student.text, student.logit_scale, student.passes[MASKED]]
    found = torch.autograd.grad(losses.total.sum(), inputs, allow_unused=True)
    return [
        torch.zeros_like(each) if grad is None else grad for each, grad in zip(inputs, found, strict=True)
    ]


def test_the_cases_cover_the_registry() -> None:
    classes = {*STUDENT_OBJECTIVES.values(), *TEACHER_OBJECTIVES.values()}
    assert {type(objective) for objective in CASES.values()} == classes


@every_objective
@pytest.mark.parametrize("mask", [None, [1, 0, 1, 1, 0, 1, 1]])
def test_gradients_equal_finite_differences(objective, mask) -> None:
    student, teacher = example()
    rows = context(mask, captions=[0, 1, 2, 0, 4, 2, 2])

    def total(image: Tensor, text: Tensor, scale: Tensor, masked: Tensor) -> Tensor:
        given = StudentOutputs(image=image, text=text, logit_scale=scale, passes={MASKED: masked})
        return run(objective, given, teacher, rows).total

    inputs = (student.image, student.text, student.logit_scale, student.passes[MASKED])
    assert torch.autograd.gradcheck(total, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


@every_objective
def test_masked_rows_are_as_if_they_were_not_there(objective) -> None:
    student, teacher = example()
    captions = [0, 1, 0, 3, 1, 5, 5]
    keep = torch.tensor([1, 0, 1, 1, 1, 0, 1], device=DEVICE).bool()
    # What a teacher says of a masked row must not matter, not even if it is no number.
    spoilt = replace(
        teacher,
        image=torch.where(keep[:, None], teacher.image, torch.nan),
        text=torch.where(keep[:, None], teacher.text, torch.inf),
    )
    masked = run(objective, student, spoilt, context(keep.int().tolist(), captions))
    whole = context(None, captions)
    part = RowContext(mask=keep[keep], positives=whole.positives[keep][:, keep])
    smaller = StudentOutputs(
        image=student.image[keep].detach().requires_grad_(),
        text=student.text[keep].detach().requires_grad_(),
        logit_scale=student.logit_scale.detach().requires_grad_(),
        passes={MASKED: student.passes[MASKED][keep].detach().requires_grad_()},
    )
    sub_teacher = replace(teacher, **{name: each[keep] for name, each in teacher.per_row().items()})
    alone = run(objective, smaller, sub_teacher, part)
    torch.testing.assert_close(masked.total[keep], alone.total)
    assert masked.count.tolist() == keep.double().tolist()
    assert masked.total[~keep].abs().sum() == 0
    *rows, scale, hidden = gradients(masked, student)
    *sub_rows, sub_scale, sub_hidden = gradients(alone, smaller)
    torch.testing.assert_close(scale, sub_scale)
    for found, expected in zip([*rows, hidden], [*sub_rows, sub_hidden], strict=True):
        torch.testing.assert_close(found[keep], expected)
        assert found[~keep].abs().sum() == 0


@every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_every_row_masked_all_is_zero_and_finite(objective, dtype) -> None:
    student, teacher = example(dtype=dtype)
    teacher = replace(teacher, image=torch.zeros_like(teacher.image), text=torch.zeros_like(teacher.text))
    losses = run(objective, student, teacher, context([0] * ROWS))
    assert losses.total.tolist() == losses.count.tolist() == [0.0] * ROWS
    for gradient in gradients(losses, student):
        assert gradient.abs().sum() == 0


@every_objective
def test_losses_are_never_negative_and_in_float32_for_half_precision(objective) -> None:
    student, teacher = example(dtype=torch.bfloat16)
    losses = run(objective, student, teacher, context())
    assert losses.total.dtype == losses.count.dtype == torch.float32
    assert (losses.total >= -1e-6).all()
    assert losses.total.sum() > 0


@every_objective
def test_exchanging_equal_captions_changes_nothing(objective) -> None:
    """Rows 1 and 4 carry the same caption; which of them holds which copy must not matter to the others."""
    student, teacher = example()
    rows = context(None, captions=[0, 1, 2, 3, 1, 5, 6])
    copied = torch.tensor([0, 1, 2, 3, 1, 5, 6], device=DEVICE)
    student = replace(student, text=student.text[copied])
    teacher = replace(teacher, text=teacher.text[copied])
    order = torch.tensor([0, 4, 2, 3, 1, 5, 6], device=DEVICE)
    exchanged_student = replace(student, text=student.text[order])
    exchanged_teacher = replace(teacher, text=teacher.text[order])
    before = run(objective, student, teacher, rows).total
    after = run(objective, exchanged_student, exchanged_teacher, rows).total
    torch.testing.assert_close(before, after)


def test_the_bare_diagonal_calls_an_equal_caption_a_negative_and_positives_do_not() -> None:
    """Images 0 and 1 fit one caption perfectly: nothing is left to learn, but the diagonal says there is."""
    towers = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], device=DEVICE)
    student = StudentOutputs(image=towers, text=towers, logit_scale=torch.tensor(50.0, device=DEVICE))
    groups = torch.tensor([0, 0, 1], device=DEVICE)
    rows = RowContext(
        mask=torch.ones(3, device=DEVICE).bool(), positives=positives(torch.arange(3, device=DEVICE), groups)
    )
    ln2 = torch.log(torch.tensor(2.0))
    # Uniform over two columns: the cross entropy is the target's own entropy, its minimum.
    torch.testing.assert_close(Contrastive()(student, rows).total.cpu(), torch.stack([ln2, ln2, 0 * ln2]))
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], device=DEVICE, requires_grad=True)
    tilted = replace(student, image=image, text=towers + 0.1)
    own = Contrastive(as_published=True)(tilted, rows).total[0]
    assert own > 0.6


def test_contrastive_equals_open_clip_where_nothing_repeats() -> None:
    student, _ = example(dtype=torch.float32)
    image, text = functional.normalize(student.image), functional.normalize(student.text)
    expected = open_clip.loss.ClipLoss()(image, text, student.logit_scale)
    for as_published in (False, True):
        losses = Contrastive(as_published=as_published)(student, context())
        torch.testing.assert_close(losses.total.mean(), expected)


def test_contrastive_by_hand() -> None:
    student = StudentOutputs(
        image=torch.tensor([[2.0, 0.0], [0.0, 3.0]], device=DEVICE),
        text=torch.tensor([[4.0, 0.0], [3.0, 4.0]], device=DEVICE),
        logit_scale=torch.tensor(2.0, device=DEVICE),
    )
    groups = torch.arange(2, device=DEVICE)
    rows = RowContext(mask=torch.ones(2, device=DEVICE).bool(), positives=positives(groups, groups))
    # Logits: [[2, 1.2], [0, 1.6]].
    logits = torch.tensor([[2.0, 1.2], [0.0, 1.6]], device=DEVICE)
    expected = -(logits.log_softmax(1).diag() + logits.log_softmax(0).diag()) / 2
    torch.testing.assert_close(Contrastive()(student, rows).total, expected)


def test_feature_mse_by_hand() -> None:
    student = StudentOutputs(
        image=torch.tensor([[3.0, 4.0]], device=DEVICE),
        text=torch.tensor([[0.0, 2.0]], device=DEVICE),
        logit_scale=torch.tensor(1.0, device=DEVICE),
    )
    available = torch.ones(1, device=DEVICE).bool()
    teacher = TeacherOutputs.of_rows(
        available,
        image=torch.tensor([[0.0, 5.0]], device=DEVICE),
        text=torch.tensor([[0.0, 7.0]], device=DEVICE),
    )
    rows = RowContext(mask=available, positives=available[:, None])
    # (0.6, 0.8) against (0, 1): (0.36 + 0.04) / 2; the text agrees.
    assert FeatureMSE()(student, teacher, rows).total.item() == pytest.approx(0.2)
    # Against (0, 5) and (0, 7) as stored: (0.36 + 17.64) / 2 + 36 / 2.
    raw = FeatureMSE(normalize_targets=False)(student, teacher, rows)
    assert raw.total.item() == pytest.approx(27.0)
    image_only = replace(teacher, text=None)
    assert FeatureMSE()(student, image_only, rows).total.item() == pytest.approx(0.2)


def test_cosine_smooth_l1_by_hand() -> None:
    student = StudentOutputs(
        image=torch.tensor([[3.0, 4.0]], device=DEVICE),
        text=torch.tensor([[1.0, 0.0]], device=DEVICE),
        logit_scale=torch.tensor(1.0, device=DEVICE),
    )
    available = torch.ones(1, device=DEVICE).bool()
    teacher = TeacherOutputs.of_rows(available, image=torch.tensor([[4.0, 5.0]], device=DEVICE))
    rows = RowContext(mask=available, positives=available[:, None])
    variances = torch.diag(torch.tensor([1.0, 4.0]))
    two = {"image": TowerStatistics(mean=torch.tensor([1.0, 1.0]), covariance=variances)}
    objective = CosineSmoothL1(cosine=0.9, smooth_l1=0.1, features="standardized", statistics=two).to(DEVICE)
    # Target (3, 2): cosine 17 / (5 √13); errors 0 and 2, smooth L1 0 and 1.5.
    expected = 0.9 * (1 - 17 / (5 * 13**0.5)) + 0.1 * 0.75
    assert objective(student, teacher, rows).total.item() == pytest.approx(expected, rel=1e-5)
    same = replace(teacher, image=torch.tensor([[6.0, 8.0]], device=DEVICE))
    assert CosineSmoothL1()(student, same, rows).total.item() == pytest.approx(0.0, abs=1e-6)


def test_similarity_kl_equals_torch_and_vanishes_for_the_teacher_itself() -> None:
    student, teacher = example()
    losses = SimilarityKL()(student, teacher, context())

    def logits(image: Tensor, text: Tensor, scale: float | Tensor) -> Tensor:
        return scale * functional.normalize(image) @ functional.normalize(text).T

    ours = logits(student.image, student.text, student.logit_scale)
    theirs = logits(teacher.image, teacher.text, 6.0)
    expected = [
        functional.kl_div(a.log_softmax(1), b.softmax(1), reduction="none").sum(1)
        for a, b in ((ours, theirs), (ours.T, theirs.T))
    ]
    torch.testing.assert_close(losses.total, (expected[0] + expected[1]) / 2)
    itself = replace(student, image=teacher.image * 3, text=teacher.text, logit_scale=torch.tensor(6.0))
    assert SimilarityKL()(itself, teacher, context()).total.abs().max() < 1e-9


def test_similarity_kl_of_repeated_captions_is_that_of_distinct_ones_weighted_by_copies() -> None:
    """The docstring's claim: no caption counts wrongly, frequent ones count more."""
    student, teacher = example()
    copied = torch.tensor([0, 1, 2, 1, 1, 5, 5], device=DEVICE)
    student, teacher = (
        replace(student, text=student.text[copied]),
        replace(teacher, text=teacher.text[copied]),
    )
    ours = 4.0 * functional.normalize(student.image) @ functional.normalize(student.text).T
    theirs = 6.0 * functional.normalize(teacher.image) @ functional.normalize(teacher.text).T
    groups = [[0], [1, 3, 4], [2], [5, 6]]
    q = torch.stack([ours.softmax(1)[:, group].sum(1) for group in groups], dim=1)
    p = torch.stack([theirs.softmax(1)[:, group].sum(1) for group in groups], dim=1)
    to_texts = (p * (p / q).log()).sum(1)
    to_images = functional.kl_div(ours.T.log_softmax(1), theirs.T.softmax(1), reduction="none").sum(1)
    found = SimilarityKL()(student, teacher, context(None, copied.tolist())).total
    torch.testing.assert_close(found, (to_texts + to_images) / 2)


def test_interactive_contrastive_is_the_contrastive_loss_across_the_two_models() -> None:
    student, teacher = example()
    rows = context(None, captions=[0, 1, 2, 0, 4, 5, 6])
    found = InteractiveContrastive()(student, teacher, rows).total

    # i2t of (student image, teacher text) and t2i of (teacher image, student text): each half of a CLIP loss.
    def cross_entropy(anchors: Tensor, others: Tensor, scale: float) -> Tensor:
        log_p = (scale * functional.normalize(anchors) @ functional.normalize(others).T).log_softmax(1)
        targets = rows.positives / rows.positives.sum(1, keepdim=True)
        return -(targets * log_p).sum(1)

    expected = (
        cross_entropy(student.image, teacher.text, 4.0) + cross_entropy(student.text, teacher.image, 4.0)
    ) / 2
    torch.testing.assert_close(found, expected)
    assert pytest.approx(2.659, abs=1e-3) == PUBLISHED_SCALE
    unit = replace(
        teacher, image=functional.normalize(teacher.image), text=functional.normalize(teacher.text)
    )
    published = InteractiveContrastive(as_published=True)(student, unit, rows)
    fixed = InteractiveContrastive(scale=PUBLISHED_SCALE)(student, teacher, context())
    torch.testing.assert_close(published.total, fixed.total)
    assert gradients(published, student)[2] == 0
    assert gradients(InteractiveContrastive()(student, teacher, rows), student)[2] != 0


@pytest.mark.parametrize(
    "name",
    [
        "similarity_kl",
        "interactive_contrastive",
        "affinity_mimicking",
        "gradient_distillation",
        "augmented_feature_fusion",
        "class_vector_kl",
    ],
)
@pytest.mark.parametrize("tower", ["image", "text"])
def test_objectives_over_both_towers_refuse_a_teacher_with_one(name, tower) -> None:
    student, teacher = example()
    objective = CASES[name].to(DEVICE)
    with pytest.raises(TeacherError, match=f"got one without {tower} embeddings"):
        objective(student, replace(teacher, **{tower: None}), context())


@pytest.mark.parametrize(
    "name", ["similarity_kl", "affinity_mimicking", "gradient_distillation", "class_vector_kl"]
)
def test_similarities_without_any_teacher_scale_are_refused(name) -> None:
    student, teacher = example()
    with pytest.raises(TeacherError, match=f"`teacher_scale` of {name}"):
        CASES[name](student, replace(teacher, logit_scale=None), context())
