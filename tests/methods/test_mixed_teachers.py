"""Stage 2 of MMKD-CLIP as its code has it, negatives from mixed teachers included, by hand in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from meddistill.errors import ConfigError, TeacherError
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.mixing import mixed_rows
from meddistill.objectives.base import RowContext
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.records import StudentOutputs, TeacherOutputs
from toy_training import DEVICE

ROWS, DIM = 8, 5
NAMES = ("alpha", "beta", "gamma")
SCALE = 6.0
CAPTIONS = [0, 1, 2, 0, 4, 2, 6, 7]
# Row 4 is known to nobody.
AVAILABLE = {
    "alpha": [1, 1, 0, 1, 0, 1, 0, 1],
    "beta": [1, 0, 1, 1, 0, 1, 1, 1],
    "gamma": [1, 1, 1, 0, 0, 1, 1, 0],
}
PUBLISHED = {
    "contrastive": {"as_published": True},
    "feature_mse": {"weight": 50.0, "normalize_targets": False},
    "interactive_contrastive": {"as_published": True},
}
CORRECTED = {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0}


def config(objectives=PUBLISHED, selection="random_draw") -> EmbeddingConfig:
    return EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": objectives, "selection": {"kind": selection}}
    )


def method_without_heads(chosen: EmbeddingConfig) -> Method:
    """Student and teachers in one space, as after MMKD-CLIP's projection: the heads are made the identity."""
    spaces = {name: TeacherSpace(dims={"image": DIM, "text": DIM}, logit_scale=9.0) for name in NAMES}
    method = build_method(chosen, student_dim=DIM, teachers=spaces, seed=0).double().to(DEVICE)
    with torch.no_grad():
        for head in method.heads.values():
            head.linear.weight.copy_(torch.eye(DIM))
            head.linear.bias.zero_()
    return method


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=DEVICE)


class Example:
    """Student rows and, per teacher, rows of norms that are not 1."""

    def __init__(self) -> None:
        draw = np.random.default_rng(11)
        self.image, self.text = draw.normal(size=(2, ROWS, DIM))
        self.theirs = {name: draw.normal(size=(2, ROWS, DIM)) * 1.7 for name in NAMES}

    def student(self) -> StudentOutputs:
        return StudentOutputs(
            image=tensor(self.image).requires_grad_(),
            text=tensor(self.text).requires_grad_(),
            logit_scale=tensor(SCALE).requires_grad_(),
        )

    def teachers(self) -> dict[str, TeacherOutputs]:
        """What stands in rows that a teacher does not know is no number."""
        found = {}
        for name, (image, text) in self.theirs.items():
            known = np.array(AVAILABLE[name], dtype=bool)
            rows = [np.where(known[:, None], tower, np.nan) for tower in (image, text)]
            found[name] = TeacherOutputs.of_rows(
                torch.tensor(known, device=DEVICE), image=tensor(rows[0]), text=tensor(rows[1])
            )
        return found


def which_positives() -> torch.Tensor:
    captions = torch.tensor(CAPTIONS, device=DEVICE)
    return captions[:, None] == captions[None, :]


def step(method: Method, student: StudentOutputs, teachers: dict[str, TeacherOutputs]):
    generator = torch.Generator().manual_seed(4)
    return method.loss(student, teachers, positives=which_positives(), generator=generator)


def drawn(method: Method) -> list[str | None]:
    """Which teacher the same generator draws for each row."""
    available = torch.tensor([AVAILABLE[name] for name in NAMES]).T.bool()
    selected = method.selection.select(available, torch.Generator().manual_seed(4))
    return [next((name for name, chosen in zip(NAMES, row, strict=True) if chosen), None) for row in selected]


def unit(rows) -> np.ndarray:
    return np.stack([row / math.sqrt(sum(value**2 for value in row)) for row in rows])


def cross_entropy(anchors, others, *, scale: float, rows: list[int], bare: bool) -> list[float]:
    """By row, of those that take part."""
    losses = []
    for row in rows:
        logits = {other: scale * float(anchors[row] @ others[other]) for other in rows}
        whole = math.log(sum(math.exp(logit) for logit in logits.values()))
        own = [row] if bare else [other for other in rows if CAPTIONS[other] == CAPTIONS[row]]
        losses.append(sum(whole - logits[other] for other in own) / len(own))
    return losses


def test_as_published_by_hand() -> None:
    """L = CLIP + 50·FD + ICL: raw targets, c = ln(1/0.07) used raw, columns of each row's drawn teacher."""
    example, method = Example(), method_without_heads(config())
    found = step(method, example.student(), example.teachers())
    teachers = drawn(method)
    assert len(set(teachers)) == 4
    image, text = unit(example.image), unit(example.text)
    task = [
        cross_entropy(*pair, scale=SCALE, rows=list(range(ROWS)), bare=True)
        for pair in ((image, text), (text, image))
    ]
    rows = [row for row, name in enumerate(teachers) if name is not None]
    their_image, their_text = np.ones((2, ROWS, DIM))
    for row in rows:
        their_image[row], their_text[row] = example.theirs[teachers[row]][:, row]
    distances = [
        np.mean((image[row] - their_image[row]) ** 2) + np.mean((text[row] - their_text[row]) ** 2)
        for row in rows
    ]
    across = [
        cross_entropy(*pair, scale=math.log(1 / 0.07), rows=rows, bare=True)
        for pair in ((image, their_text), (text, their_image))
    ]
    expected = {
        "contrastive": np.mean(task),
        "feature_mse": np.mean(distances),
        "interactive_contrastive": np.mean(across),
    }
    assert found.parts.keys() == expected.keys()
    for name, value in expected.items():
        assert found.parts[name].item() == pytest.approx(value, rel=1e-12), name
    total = expected["contrastive"] + 50 * expected["feature_mse"] + expected["interactive_contrastive"]
    assert found.total.item() == pytest.approx(total, rel=1e-12)


def test_corrected_by_hand() -> None:
    """Targets at unit length, the student's learnt scale, for each teacher a softmax over its own rows."""
    example, method = Example(), method_without_heads(config(CORRECTED))
    found = step(method, example.student(), example.teachers())
    teachers = drawn(method)
    image, text = unit(example.image), unit(example.text)
    distances, across = [], []
    for name in NAMES:
        rows = [row for row, chosen in enumerate(teachers) if chosen == name]
        their_image, their_text = (unit(tower) for tower in example.theirs[name])
        distances += [
            np.mean((image[row] - their_image[row]) ** 2) + np.mean((text[row] - their_text[row]) ** 2)
            for row in rows
        ]
        both = [
            cross_entropy(*pair, scale=SCALE, rows=rows, bare=False)
            for pair in ((image, their_text), (text, their_image))
        ]
        across += [sum(pair) / 2 for pair in zip(*both, strict=True)]
    assert found.parts["feature_mse"].item() == pytest.approx(np.mean(distances), rel=1e-12)
    assert found.parts["interactive_contrastive"].item() == pytest.approx(np.mean(across), rel=1e-12)


def test_rows_that_were_not_drawn_have_no_part() -> None:
    """Row 4 has no teacher; the gradient of the mixed softmax is zero there and finite everywhere."""
    example = Example()
    method = method_without_heads(config({"interactive_contrastive": {"as_published": True}}))
    student = example.student()
    step(method, student, example.teachers()).total.backward()
    for gradient in (student.image.grad, student.text.grad):
        assert gradient.isfinite().all()
        assert gradient[4].abs().sum() == 0
        assert (gradient.abs().sum(dim=1) > 0).sum() == ROWS - 1
    assert student.logit_scale.grad is None


def test_with_one_teacher_mixing_changes_nothing() -> None:
    example = Example()
    teacher, student = example.teachers()["alpha"], example.student()
    selected = teacher.available[:, None]
    mixed = mixed_rows(selected, projected=[student], teachers=[teacher])
    objective = InteractiveContrastive(as_published=True)
    whole = objective(mixed.student, mixed.teacher, RowContext(mask=mixed.mask, positives=which_positives()))
    alone = objective(student, teacher, RowContext(mask=teacher.available, positives=which_positives()))
    torch.testing.assert_close(whole.total, alone.total)


def test_a_tower_that_is_missing_is_named() -> None:
    example = Example()
    teacher = replace(example.teachers()["alpha"], text=None)
    with pytest.raises(TeacherError, match="without text"):
        mixed_rows(teacher.available[:, None], projected=[example.student()], teachers=[teacher])


def test_mixing_needs_one_dim_and_one_teacher_a_row() -> None:
    spaces = {
        "alpha": TeacherSpace(dims={"image": 5, "text": 5}),
        "beta": TeacherSpace(dims={"image": 6, "text": 6}),
    }
    with pytest.raises(ConfigError) as error:
        build_method(config(selection="available"), student_dim=DIM, teachers=spaces, seed=0)
    mistakes = "\n".join(error.value.mistakes)
    assert "`selection` must draw one teacher a row for interactive_contrastive, which mixes" in mistakes
    assert "got available. Use random_draw, or leave `as_published` out." in mistakes
    assert "`teachers` must have embeddings of one dim" in mistakes
    assert "got alpha 5, beta 6" in mistakes
    build_method(config(CORRECTED, selection="available"), student_dim=DIM, teachers=spaces, seed=0)
