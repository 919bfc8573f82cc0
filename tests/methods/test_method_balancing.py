"""Selections and weightings that look at losses, teachers or gradients, inside a method."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from meddistill.balancing.least_norm import least_norm
from meddistill.balancing.torchjd_methods import METHODS, missing_packages
from meddistill.errors import ConfigError
from meddistill.methods.base import TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.objectives.base import RowContext
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.records import StudentOutputs, positives
from toy_training import (
    DEVICE,
    STUDENT_DIM,
    TEACHER_DIMS,
    ToyStudent,
    ToyTeachers,
    toy_batch,
    toy_method,
    toy_spaces,
)

ROWS = range(12)
GRADIENT_RULES = [name for name, rule in METHODS.items() if rule.gradients and not missing_packages(name)]
WEIGHTINGS = [
    {"kind": "uncertainty"},
    {"kind": "loss_mlp"},
    {"kind": "attention"},
    {"kind": "attention", "keys": "pooled"},
    {"kind": "confidence"},
    {"kind": "min_norm", "max_weight": 0.6},
    *({"kind": "torchjd", "method": name} for name in METHODS if not missing_packages(name)),
]


def method_of(*, objectives=None, **changes):
    objectives = objectives or {"feature_mse": 50.0, "interactive_contrastive": 1.0}
    content = {"method": "embedding", "objectives": objectives, **changes}
    return toy_method(EmbeddingConfig.model_validate(content)).double().to(DEVICE)


@cache
def outputs(absent=()):
    found = ToyTeachers(absent=absent).outputs(toy_batch(ROWS))
    return {
        name: replace(
            each,
            image=each.image.double().to(DEVICE),
            text=each.text.double().to(DEVICE),
            image_available=each.image_available.to(DEVICE),
            text_available=each.text_available.to(DEVICE),
        )
        for name, each in found.items()
    }


def embeddings() -> StudentOutputs:
    batch = toy_batch(ROWS)
    found = ToyStudent().double()(batch)
    return StudentOutputs(
        image=found.image.detach().to(DEVICE).requires_grad_(),
        text=found.text.detach().to(DEVICE).requires_grad_(),
        logit_scale=found.logit_scale.detach().to(DEVICE).requires_grad_(),
    )


def which_positives() -> torch.Tensor:
    batch = toy_batch(ROWS)
    return positives(batch.image_group, batch.text_group).to(DEVICE)


def step(method, student, teachers, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return method.loss(student, teachers, positives=which_positives(), generator=generator)


def gradient(method, teachers, seed: int = 0) -> tuple[object, torch.Tensor]:
    """What the step found, and the gradient at image and text embeddings."""
    student = embeddings()
    found = step(method, student, teachers, seed)
    found.total.backward()
    return found, torch.cat([student.image.grad.flatten(), student.text.grad.flatten()])


@cache
def each_alone() -> torch.Tensor:
    """Gradient of each teacher's mean loss, as if there were no other."""
    return torch.stack([gradient(method_of(), outputs(_all_but(name)))[1] for name in TEACHER_DIMS])


@pytest.mark.parametrize("rule", GRADIENT_RULES)
def test_the_step_goes_in_the_direction_that_the_rule_gives(rule) -> None:
    """Teachers have different rows, and yet the gradient is Σ α_t·g_t of their own mean losses."""
    method = method_of(weighting={"kind": "torchjd", "method": rule})
    found, direction = gradient(method, outputs())
    alone = each_alone()
    assert found.teacher_weights.abs().sum().item() == pytest.approx(1)
    torch.testing.assert_close(direction, found.teacher_weights @ alone, rtol=1e-9, atol=1e-12)


def test_mgda_lowers_no_teacher_less_than_the_norm_of_its_direction() -> None:
    options = {"epsilon": 1e-10, "max_iters": 3000}
    method = method_of(weighting={"kind": "torchjd", "method": "mgda", "options": options})
    _, direction = gradient(method, outputs())
    alone = each_alone()
    slack = (alone @ direction - direction @ direction) / alone.square().sum(dim=1).mean()
    assert slack.min() > -1e-3


def test_balancing_acts_where_each_row_has_one_teacher() -> None:
    """Weights that sum to 1 in a row would all be 1 there."""
    uniform = method_of(selection={"kind": "random_draw"})
    balanced = method_of(selection={"kind": "random_draw"}, weighting={"kind": "torchjd", "method": "upgrad"})
    first, second = gradient(uniform, outputs()), gradient(balanced, outputs())
    assert not torch.allclose(first[1], second[1])
    assert not torch.allclose(first[0].teacher_weights, second[0].teacher_weights)


@pytest.mark.parametrize(
    ("kind", "weighting"),
    [
        *(("teacher_dropping", weighting) for weighting in WEIGHTINGS),
        *((kind, WEIGHTINGS[-1]) for kind in ("available", "random_draw", "batch_draw")),
    ],
    ids=str,
)
def test_every_selection_and_every_weighting_stands_absent_teachers(kind, weighting) -> None:
    method = method_of(selection={"kind": kind}, weighting=weighting)
    for absent in ((), ("beta",), tuple(TEACHER_DIMS)):
        found, direction = gradient(method, outputs(absent))
        assert found.total.isfinite()
        assert direction.isfinite().all()
        shares = found.teacher_weights.abs().sum().item()
        assert shares == pytest.approx(0 if len(absent) == 3 else 1)
        for name in absent:
            column = list(TEACHER_DIMS).index(name)
            assert found.teacher_weights[column] == found.teacher_losses[column] == 0
        assert (found.teacher_losses >= 0).all()
        if len(absent) == 3:
            assert direction.abs().sum() == 0


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)
def test_an_absent_teacher_is_as_if_it_were_not_in_the_recipe(weighting) -> None:
    if weighting.get("method") in {"pcgrad", "random"}:
        pytest.skip("draws")
    content = {"method": "embedding", "objectives": {"feature_mse": 50.0}, "weighting": weighting}
    config = EmbeddingConfig.model_validate(content)
    two = ["alpha", "beta"]
    without = toy_method(config, names=two).double().to(DEVICE)
    few = {name: each for name, each in outputs().items() if name in two}
    _, found = gradient(toy_method(config).double().to(DEVICE), outputs(("gamma",)))
    torch.testing.assert_close(found, gradient(without, few)[1])


def test_dropping_keeps_the_highest_loss_with_all_available_rows_as_negatives() -> None:
    objectives = {"interactive_contrastive": 1.0}
    method = method_of(objectives=objectives, selection={"kind": "teacher_dropping", "probability": 1.0})
    student, teachers = embeddings(), outputs()
    found = step(method, student, teachers)
    rows = []
    for name, each in teachers.items():
        head = method.heads[name]
        projected = replace(student, image=head(student.image), text=head(student.text))
        context = RowContext(mask=each.available, positives=which_positives())
        rows.append(InteractiveContrastive()(projected, each, context).total)
    losses = torch.stack(rows, dim=1)
    known = torch.stack([each.available for each in teachers.values()], dim=1).any(dim=1)
    torch.testing.assert_close(found.total, losses.max(dim=1).values[known].mean())
    highest = losses[known].argmax(dim=1).bincount(minlength=3) / known.sum()
    torch.testing.assert_close(found.teacher_weights, highest.double())


def test_a_batch_draw_is_a_step_with_that_teacher_alone() -> None:
    method = method_of(selection={"kind": "batch_draw"})
    drawn = set()
    for seed in range(8):
        found, direction = gradient(method, outputs(), seed)
        column = int(found.teacher_weights.argmax())
        assert found.teacher_weights.tolist() == [float(column == each) for each in range(3)]
        torch.testing.assert_close(direction, each_alone()[column])
        drawn.add(column)
    assert len(drawn) > 1


def test_uncertainty_learns_beside_the_student() -> None:
    """The student sees the weights as constants; the log-variances see nothing but the losses."""
    method = method_of(weighting={"kind": "uncertainty", "rate": 4.0})
    with torch.no_grad():
        method.weighting.scaled.copy_(torch.tensor([0.1, 0.2, -0.1]))
    fixed = {name: math.exp(-4 * value) for name, value in zip(TEACHER_DIMS, (0.1, 0.2, -0.1), strict=True)}
    constant = method_of(weighting={"kind": "fixed", "weights": fixed})
    found, direction = gradient(method, outputs())
    torch.testing.assert_close(direction, gradient(constant, outputs())[1], rtol=1e-6, atol=1e-7)
    weights = {"feature_mse": 50.0, "interactive_contrastive": 1.0, "weighting": 1.0}
    assert found.parts.keys() == weights.keys()
    torch.testing.assert_close(found.total, sum(weights[name] * part for name, part in found.parts.items()))
    alone = [step(method_of(), embeddings(), outputs(_all_but(name))).total.item() for name in TEACHER_DIMS]
    expected = [1e-3 * (1 - fixed[name] * loss) for name, loss in zip(TEACHER_DIMS, alone, strict=True)]
    assert method.weighting.scaled.grad.tolist() == pytest.approx(expected, rel=1e-5)


def _all_but(name: str) -> tuple[str, ...]:
    return tuple(other for other in TEACHER_DIMS if other != name)


def test_log_variances_of_an_absent_teacher_stay() -> None:
    method = method_of(weighting={"kind": "uncertainty"})
    gradient(method, outputs(("beta",)))
    assert method.weighting.scaled.grad[1] == 0
    assert (method.weighting.scaled.grad[[0, 2]] != 0).all()


def test_confidence_asks_how_well_a_teacher_tells_its_own_pairs() -> None:
    """The doubt of a row, by hand: both directions, over the rows that the teacher is available for."""
    teachers, same = outputs(), which_positives()
    doubts = torch.full((len(ROWS), 3), -torch.inf, dtype=torch.float64)
    for column, each in enumerate(teachers.values()):
        rows = [row for row in ROWS if each.available[row]]
        image, text = (torch.nn.functional.normalize(side, dim=1) for side in (each.image, each.text))
        for row in rows:
            doubt = 0.0
            for one, other in ((image, text), (text, image)):
                log_probability = (each.logit_scale * other[rows] @ one[row]).log_softmax(dim=0)
                doubt += -log_probability[same[row, rows]].mean().item() / 2
            doubts[row, column] = doubt
    number = doubts.isfinite().sum(dim=1, keepdim=True)
    weights = (1 - doubts.softmax(dim=1)) / (number - 1)
    weights = torch.where(number == 1, 1.0, weights) * doubts.isfinite()
    method = method_of(weighting={"kind": "confidence"})
    found = step(method, embeddings(), teachers)
    known = number[:, 0] > 0
    expected = weights[known].mean(dim=0)
    torch.testing.assert_close(found.teacher_weights.cpu(), expected)
    assert (expected - 1 / 3).abs().max() > 0.02
    softer = step(method_of(weighting={"kind": "confidence", "teacher_scale": 1.0}), embeddings(), teachers)
    assert not torch.allclose(found.teacher_weights, softer.teacher_weights)


def mistakes_of(weighting: dict, spaces: dict[str, TeacherSpace]) -> str:
    content = {"method": "embedding", "objectives": {"feature_mse": 1.0}, "weighting": weighting}
    config = EmbeddingConfig.model_validate(content)
    with pytest.raises(ConfigError) as error:
        build_method(config, student_dim=STUDENT_DIM, teachers=spaces, seed=0)
    return "\n".join(error.value.mistakes)


def test_what_confidence_needs_of_teachers_is_told_at_once() -> None:
    spaces = {
        "dino": TeacherSpace(dims={"image": 8}),
        "plain": TeacherSpace(dims={"image": 8, "text": 8}),
    }
    told = mistakes_of({"kind": "confidence"}, spaces)
    assert "teacher `dino` must have image and text embeddings for the weighting confidence; got ima" in told
    assert "teacher `plain` must have a logit scale for the weighting confidence; got none. Set" in told
    assert "logit scale" not in mistakes_of({"kind": "confidence", "teacher_scale": 20}, spaces)


@pytest.mark.parametrize(
    ("rule", "packages"), [("cagrad", ["cvxpy", "clarabel"]), ("nash_mtl", ["cvxpy", "ecos"])]
)
def test_a_rule_whose_package_is_missing_names_it(monkeypatch, rule, packages) -> None:
    monkeypatch.setattr("meddistill.balancing.torchjd_methods.find_spec", lambda _: None)
    told = mistakes_of({"kind": "torchjd", "method": rule}, toy_spaces())
    for package in packages:
        assert f"`weighting.method` {rule} must have the package {package}; it is missing." in told
        assert f"pip install {package}" in told


def test_a_bound_that_no_weights_can_keep_names_the_least_that_they_can() -> None:
    def told(bound: float, teachers: int) -> list[str]:
        weighting = {"kind": "min_norm", "max_weight": bound}
        return EmbeddingConfig(method="embedding", weighting=weighting).too_few_teachers(
            list("abcd")[:teachers]
        )

    assert told(0.2, 4) == [
        "`weighting.max_weight` must be at least 1 / (number of teachers), or weights cannot sum to 1; got "
        "0.2 for a, b, c, d. Set 0.25 or more."
    ]
    assert [told(0.25, 4), told(0.334, 3), told(1.0, 1)] == [[], [], []]
    assert "Set 0.334 or more." in told(0.33, 3)[0]


@pytest.mark.parametrize("options", [{}, {"max_weight": 0.5}, {"normalize": True}], ids=str)
def test_the_step_of_min_norm_is_the_mixture_of_the_teachers_gradients(options) -> None:
    found, direction = gradient(method_of(weighting={"kind": "min_norm", **options}), outputs())
    torch.testing.assert_close(direction, found.teacher_weights @ each_alone(), rtol=1e-9, atol=1e-12)
    assert found.teacher_weights.max() <= options.get("max_weight", 1) + 1e-9
    if not options:
        least = direction.square().sum()
        assert (each_alone() @ direction >= least * (1 - 1e-7)).all()


def test_the_direction_found_at_embeddings_is_near_that_of_all_parameters() -> None:
    """The norm at embeddings bounds that over parameters; the mixtures need not be the same, and are near.

    Cosines of the two directions over all parameters of the towers, and of the mean beside it.
    """
    student, batch, same = ToyStudent().double().to(DEVICE), toy_batch(ROWS), which_positives()
    batch = replace(batch, rasters=batch.rasters.to(DEVICE), tokens=batch.tokens.to(DEVICE))
    parameters = [each for name, each in student.named_parameters() if name != "log_scale"]

    def over_parameters(names) -> torch.Tensor:
        absent = tuple(name for name in TEACHER_DIMS if name not in names)
        generator = torch.Generator().manual_seed(0)
        loss = method_of().loss(student(batch), outputs(absent), positives=same, generator=generator).total
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)])

    jacobian = torch.stack([over_parameters([name]) for name in TEACHER_DIMS])
    best = torch.from_numpy(least_norm((jacobian @ jacobian.T).cpu().numpy(), 1.0)).to(DEVICE) @ jacobian
    found, _ = gradient(method_of(weighting={"kind": "min_norm"}), outputs())
    chosen, mean = found.teacher_weights @ jacobian, jacobian.mean(dim=0)
    near, beside = (torch.cosine_similarity(best, each, dim=0).item() for each in (chosen, mean))
    assert near > 0.95
    assert near > beside
    assert chosen.norm() < mean.norm()
