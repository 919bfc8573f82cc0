"""Each loss against a calculation in numpy's float64, row by row and without a word of the project's code."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from meddistill.objectives.affinity_mimicking import AffinityMimicking
from meddistill.objectives.augmented_feature_fusion import AugmentedFeatureFusion
from meddistill.objectives.base import RowContext
from meddistill.objectives.config import MASKED, EmbeddingObjectives
from meddistill.objectives.contrastive import Contrastive
from meddistill.objectives.feature_mse import FeatureMSE
from meddistill.objectives.gradient_distillation import GradientDistillation, contrastive_gradients
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.objectives.masked_feature_distillation import MaskedFeatureDistillation
from meddistill.objectives.registry import Layers, build_teacher_objective
from meddistill.objectives.similarity_kl import SimilarityKL
from meddistill.records import StudentOutputs, TeacherOutputs
from toy_training import DEVICE

Rows = NDArray[np.float64]
ROWS, DIM = 6, 4
SCALE, TEACHER_SCALE = 5.0, 7.0
CAPTIONS = [0, 1, 2, 0, 4, 2]
MASK = [True, True, True, True, False, True]
EXACT = {"rtol": 1e-10, "atol": 1e-13}


class Example:
    """Random rows for a student and a teacher, as numpy and as records."""

    def __init__(self) -> None:
        draw = np.random.default_rng(3)
        self.image, self.text, self.masked, self.their_image, self.their_text = (
            draw.normal(size=(ROWS, DIM)) for _ in range(5)
        )

    @property
    def student(self) -> StudentOutputs:
        return StudentOutputs(
            image=tensor(self.image),
            text=tensor(self.text),
            logit_scale=tensor(SCALE),
            passes={MASKED: tensor(self.masked)},
        )

    @property
    def teacher(self) -> TeacherOutputs:
        return TeacherOutputs.of_rows(
            torch.tensor(MASK, device=DEVICE),
            image=tensor(self.their_image),
            text=tensor(self.their_text),
            logit_scale=TEACHER_SCALE,
        )

    @property
    def context(self) -> RowContext:
        captions = torch.tensor(CAPTIONS, device=DEVICE)
        return RowContext(
            mask=torch.tensor(MASK, device=DEVICE), positives=captions[:, None] == captions[None, :]
        )


def tensor(values: Rows | float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, device=DEVICE)


def unit(rows: Rows) -> Rows:
    return np.stack([row / math.sqrt(sum(value**2 for value in row)) for row in rows])


def kept() -> list[int]:
    return [row for row in range(ROWS) if MASK[row]]


def positives_of(row: int, *, diagonal: bool) -> list[int]:
    return [row] if diagonal else [other for other in kept() if CAPTIONS[other] == CAPTIONS[row]]


def probabilities(anchor: Rows, others: Rows, scale: float) -> dict[int, float]:
    """softmax over the rows of the mask, by their numbers."""
    powers = {row: math.exp(scale * float(anchor @ others[row])) for row in kept()}
    return {row: power / sum(powers.values()) for row, power in powers.items()}


def cross_entropy(row: int, anchors: Rows, others: Rows, scale: float, *, diagonal: bool) -> float:
    found = probabilities(anchors[row], others, scale)
    own = positives_of(row, diagonal=diagonal)
    return -sum(math.log(found[each]) for each in own) / len(own)


def by_row(loss) -> torch.Tensor:
    return tensor(np.array([loss(row) if MASK[row] else 0.0 for row in range(ROWS)]))


def run(objective, example: Example) -> torch.Tensor:
    losses = objective.to(DEVICE)(example.student, example.teacher, example.context)
    assert losses.count.tolist() == [float(keep) for keep in MASK]
    return losses.total


@pytest.mark.parametrize("as_published", [False, True])
def test_contrastive(as_published) -> None:
    example = Example()
    image, text = unit(example.image), unit(example.text)

    def loss(row: int) -> float:
        to_texts = cross_entropy(row, image, text, SCALE, diagonal=as_published)
        to_images = cross_entropy(row, text, image, SCALE, diagonal=as_published)
        return (to_texts + to_images) / 2

    found = Contrastive(as_published=as_published)(example.student, example.context).total
    torch.testing.assert_close(found, by_row(loss), **EXACT)


@pytest.mark.parametrize("normalize_targets", [True, False])
def test_feature_mse(normalize_targets) -> None:
    """Un-normalised targets are what MMKD-CLIP's code has."""
    example = Example()
    image, text = unit(example.image), unit(example.text)
    targets = [example.their_image, example.their_text]
    their_image, their_text = (unit(each) if normalize_targets else each for each in targets)

    def loss(row: int) -> float:
        errors = [*(image[row] - their_image[row]), *(text[row] - their_text[row])]
        return sum(error**2 for error in errors) / DIM

    found = run(FeatureMSE(normalize_targets=normalize_targets), example)
    torch.testing.assert_close(found, by_row(loss), **EXACT)


@pytest.mark.parametrize("as_published", [False, True])
def test_interactive_contrastive(as_published) -> None:
    """As published: c = ln(1/0.07), not its exponential, not the student's scale, and targets as they are."""
    example = Example()
    image, text = unit(example.image), unit(example.text)
    targets = [example.their_image, example.their_text]
    their_image, their_text = (each if as_published else unit(each) for each in targets)
    scale = 2.659260036932778 if as_published else SCALE

    def loss(row: int) -> float:
        to_texts = cross_entropy(row, image, their_text, scale, diagonal=as_published)
        to_images = cross_entropy(row, text, their_image, scale, diagonal=as_published)
        return (to_texts + to_images) / 2

    found = run(InteractiveContrastive(as_published=as_published), example)
    torch.testing.assert_close(found, by_row(loss), **EXACT)


@pytest.mark.parametrize("teacher_scale", [None, 50.0])
def test_affinity_mimicking(teacher_scale) -> None:
    example = Example()
    towers = [unit(each) for each in (example.image, example.text, example.their_image, example.their_text)]
    image, text, their_image, their_text = towers

    def loss(row: int) -> float:
        total = 0.0
        for anchors, others, theirs, their_others in (
            (image, text, their_image, their_text),
            (text, image, their_text, their_image),
        ):
            target = probabilities(theirs[row], their_others, teacher_scale or TEACHER_SCALE)
            ours = probabilities(anchors[row], others, SCALE)
            total -= sum(target[each] * math.log(ours[each]) for each in kept()) / 2
        return total

    found = run(AffinityMimicking(teacher_scale=teacher_scale), example)
    torch.testing.assert_close(found, by_row(loss), **EXACT)


def test_affinity_mimicking_is_similarity_kl_and_the_teachers_entropy() -> None:
    """The docstrings' claim: a difference that does not depend on the student, and so equal gradients."""
    example = Example()
    their_image, their_text = unit(example.their_image), unit(example.their_text)

    def entropy(row: int) -> float:
        both = ((their_image, their_text), (their_text, their_image))
        found = [probabilities(anchors[row], others, TEACHER_SCALE).values() for anchors, others in both]
        return -sum(value * math.log(value) for values in found for value in values) / 2

    divergence, crossed = run(SimilarityKL(), example), run(AffinityMimicking(), example)
    torch.testing.assert_close(crossed - divergence, by_row(entropy), **EXACT)
    gradients = []
    for objective in (SimilarityKL(), AffinityMimicking()):
        student = example.student
        student.image.requires_grad_()
        objective(student, example.teacher, example.context).total.sum().backward()
        gradients.append(student.image.grad)
    torch.testing.assert_close(*gradients, **EXACT)
    assert gradients[0].abs().sum() > 0


def autograd_of_the_contrastive_loss(anchors: Rows, others: Rows, scale: float) -> list[torch.Tensor]:
    """∂L/∂p, ∂L/∂k of the mean cross-entropy over the rows of the mask, by torch's own cross-entropy."""
    keep = kept()
    p, k = tensor(anchors).requires_grad_(), tensor(others).requires_grad_()
    targets = np.array([[float(CAPTIONS[row] == CAPTIONS[other]) for other in keep] for row in keep])
    targets /= targets.sum(axis=1, keepdims=True)
    logits = scale * p[keep] @ k[keep].T
    functional.cross_entropy(logits, tensor(targets)).backward()
    return [p.grad, k.grad]


def test_gradients_of_the_contrastive_loss_are_autograds() -> None:
    example = Example()
    image, text = unit(example.image), unit(example.text)
    found = contrastive_gradients(tensor(image), tensor(text), scale=SCALE, context=example.context)
    expected = autograd_of_the_contrastive_loss(image, text, SCALE)
    torch.testing.assert_close([found.anchors, found.others], expected, **EXACT)


def test_gradient_distillation_is_the_distance_of_autograds_gradients() -> None:
    example = Example()
    image, text = unit(example.image), unit(example.text)
    their_image, their_text = unit(example.their_image), unit(example.their_text)
    expected = tensor(np.zeros(ROWS))
    for ours, theirs in (
        ((image, text), (their_image, their_text)),
        ((text, image), (their_text, their_image)),
    ):
        mine = autograd_of_the_contrastive_loss(*ours, SCALE)
        target = autograd_of_the_contrastive_loss(*theirs, TEACHER_SCALE)
        for one, other in zip(mine, target, strict=True):
            expected = expected + (one - other).square().mean(dim=1)
    found = run(GradientDistillation(), example)
    torch.testing.assert_close(found, expected, **EXACT)
    assert (found[MASK] > 0).all()
    itself = replace(example.student, image=example.teacher.image, text=example.teacher.text)
    same = GradientDistillation(teacher_scale=SCALE)(itself, example.teacher, example.context)
    assert same.total.abs().max() < 1e-20


def test_gradient_distillation_as_published_divides_by_the_scale() -> None:
    """∂p = (softmax(p kᵀ/τ) − Y) k / (τ n) with the logit scale for τ, and the bare diagonal."""
    example = Example()
    image, text = unit(example.image), unit(example.text)
    their_image, their_text = unit(example.their_image), unit(example.their_text)
    keep = kept()

    def gradients(anchors: Rows, others: Rows, tau: float) -> tuple[Rows, Rows]:
        excess = np.zeros((ROWS, ROWS))
        for row in keep:
            for other, probability in probabilities(anchors[row], others, 1 / tau).items():
                excess[row, other] = (probability - (row == other)) / tau / len(keep)
        return excess @ others, excess.T @ anchors

    expected = np.zeros(ROWS)
    for ours, theirs in (
        ((image, text), (their_image, their_text)),
        ((text, image), (their_text, their_image)),
    ):
        for one, other in zip(gradients(*ours, SCALE), gradients(*theirs, TEACHER_SCALE), strict=True):
            expected += ((one - other) ** 2).mean(axis=1)
    found = run(GradientDistillation(as_published=True), example)
    torch.testing.assert_close(found, tensor(expected), rtol=1e-8, atol=1e-18)


def test_masked_feature_distillation() -> None:
    """The masked image and the whole caption, against the teacher's whole image and caption."""
    example = Example()
    masked, text = unit(example.masked), unit(example.text)
    their_image, their_text = unit(example.their_image), unit(example.their_text)

    def loss(row: int) -> float:
        errors = [*(masked[row] - their_image[row]), *(text[row] - their_text[row])]
        return sum(error**2 for error in errors) / DIM

    torch.testing.assert_close(run(MaskedFeatureDistillation(), example), by_row(loss), **EXACT)
    unmasked = replace(example.student, passes={MASKED: example.student.image})
    torch.testing.assert_close(
        MaskedFeatureDistillation()(unmasked, example.teacher, example.context).total,
        run(FeatureMSE(), example),
    )
    without = replace(example.student, passes={})
    with pytest.raises(ValueError, match="`passes` must have `masked`"):
        MaskedFeatureDistillation()(without, example.teacher, example.context)


def fusion(**changes: int) -> AugmentedFeatureFusion:
    return AugmentedFeatureFusion(**{"student_dim": DIM, "teacher_dim": DIM, "seed": 2, **changes})


def test_augmented_feature_fusion() -> None:
    example, objective = Example(), fusion().double()
    layers = {
        name: (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for name, layer in (("image", objective.image), ("text", objective.text))
    }

    def fused(name: str, ours: Rows, theirs: Rows) -> Rows:
        weight, bias = layers[name]
        return unit(
            np.stack([weight @ [*one, *other] + bias for one, other in zip(ours, theirs, strict=True)])
        )

    images = fused("image", unit(example.image), unit(example.their_image))
    texts = fused("text", unit(example.text), unit(example.their_text))

    scale = math.exp(objective.log_scale.item())
    assert scale == pytest.approx(1 / 0.07, rel=1e-6)

    def loss(row: int) -> float:
        to_texts = cross_entropy(row, images, texts, scale, diagonal=False)
        return (to_texts + cross_entropy(row, texts, images, scale, diagonal=False)) / 2

    torch.testing.assert_close(run(objective, example), by_row(loss), **EXACT)


def test_fusion_layers_depend_on_seed_and_dims_alone_and_are_trained() -> None:
    before = torch.get_rng_state()
    one, again, other = fusion(teacher_dim=3), fusion(teacher_dim=3), fusion(teacher_dim=3, seed=1)
    assert torch.get_rng_state().equal(before)
    for name, parameter in one.named_parameters():
        assert parameter.equal(dict(again.named_parameters())[name])
    assert not one.image.weight.equal(other.image.weight)
    assert not one.image.weight.equal(one.text.weight)
    example, objective = Example(), fusion().to(DEVICE)
    run(objective, example).sum().backward()
    assert {name for name, _ in objective.named_parameters()} == {
        *(f"{tower}.{kind}" for tower in ("image", "text") for kind in ("weight", "bias")),
        "log_scale",
    }
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.parameters())


def test_the_fused_pairs_scale_stays_in_its_range() -> None:
    """After an update; a forward pass changes no parameter."""
    objective = fusion().to(DEVICE)
    for value, kept in ((30.0, math.log(100)), (-1.0, 0.0)):
        with torch.no_grad():
            objective.log_scale.fill_(value)
        run(objective, Example())
        assert objective.log_scale.item() == value
        objective.after_update()
        assert objective.log_scale.item() == pytest.approx(kept)


def test_the_students_scale_has_no_part_in_the_fused_pair() -> None:
    example = Example()
    student = example.student
    student.logit_scale.requires_grad_()
    total = fusion().to(DEVICE)(student, example.teacher, example.context).total.sum()
    assert torch.autograd.grad(total, student.logit_scale, allow_unused=True) == (None,)


def test_weights_and_options_of_recipes() -> None:
    chosen = EmbeddingObjectives.model_validate(
        {
            "affinity_mimicking": {"teacher_scale": 50},
            "gradient_distillation": {"as_published": True},
            "masked_feature_distillation": {"ratio": 0.5, "patch_size": 8},
            "augmented_feature_fusion": 2,
        }
    ).chosen()
    weights = {name: options.weight for name, options in chosen.items()}
    assert weights == {
        "affinity_mimicking": 1.0,
        "gradient_distillation": 1e8,
        "masked_feature_distillation": 2000.0,
        "augmented_feature_fusion": 2.0,
    }
    layers = Layers(student_dim=5, teacher_dim=3, seed=4)
    built = {name: build_teacher_objective(name, chosen[name], layers=layers) for name in chosen}
    assert built["affinity_mimicking"].teacher_scale == 50
    assert built["gradient_distillation"].as_published
    assert built["augmented_feature_fusion"].image.weight.shape == (5, 8)
    for given, weight in (({}, 1e3), ({"weight": 7}, 7), ({"weight": 7, "as_published": True}, 7), (3, 3)):
        options = EmbeddingObjectives.model_validate({"gradient_distillation": given})
        assert options.gradient_distillation.weight == weight


@pytest.mark.parametrize(
    "content",
    [
        {"masked_feature_distillation": {"ratio": 1.0}},
        {"masked_feature_distillation": {"ratio": 0.0}},
        {"masked_feature_distillation": {"patch_size": 0}},
        {"gradient_distillation": {"teacher_scale": -1}},
        {"augmented_feature_fusion": {"teacher_scale": 1}},
    ],
)
def test_wrong_options_are_refused(content) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EmbeddingObjectives.model_validate(content)
