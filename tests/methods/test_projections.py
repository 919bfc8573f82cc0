"""Where the student meets its teachers, and what a weight means there."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from meddistill.errors import ConfigError
from meddistill.features.projections.maps import LinearMap
from meddistill.methods.base import Method
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.spaces import FixedMap
from toy_projections import projected, toy_maps
from toy_rows import ROWS, assert_only_shares_change, available_everywhere, embeddings, outputs, step
from toy_training import (
    DEVICE,
    STUDENT_DIM,
    TEACHER_DIMS,
    toy_method,
)

FIXED = ("linear_autoencoder", "pca", "phi_s")
FEATURES = {
    "feature_mse": 50.0,
    "cosine_smooth_l1": {"weight": 2.0, "features": "normalized"},
    "gradient_distillation": 1e3,
}


def config(kind: str, **changes) -> EmbeddingConfig:
    options = {
        "method": "embedding",
        "objectives": {"feature_mse": 50.0},
        "projection": {"kind": kind},
        "rescale": "none",
    }
    return EmbeddingConfig.model_validate({**options, **changes})


@pytest.mark.parametrize("kind", ["linear_autoencoder", "pca"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_the_student_is_compared_with_the_mapped_teachers(kind, normalize, unit) -> None:
    """feature_mse by hand; one map for images and texts, no head."""
    maps = toy_maps(dim=STUDENT_DIM, unit_inputs=unit)
    options = config(kind, objectives={"feature_mse": {"weight": 1, "normalize_targets": normalize}})
    method = projected(options, maps)
    assert not list(method.parameters())
    student, teachers = embeddings(), outputs()
    found = step(method, student, teachers)
    total, rows = 0.0, 0
    for row in ROWS:
        present = [name for name in TEACHER_DIMS if teachers[name].available[row]]
        rows += bool(present)
        for name in present:
            weight, bias = torch.from_numpy(maps[name].weight), torch.from_numpy(maps[name].bias)
            for ours, theirs in ((student.image, teachers[name].image), (student.text, teachers[name].text)):
                vector = theirs[row].cpu()
                target = weight @ (vector / vector.norm() if unit else vector) + bias
                target = target / target.norm() if normalize else target
                mine = ours[row].cpu()
                total = total + (mine / mine.norm() - target).square().mean() / len(present)
    torch.testing.assert_close(found.total.cpu(), total / rows)


@pytest.mark.parametrize("kind", FIXED)
def test_a_head_leads_to_spaces_of_another_dim(kind) -> None:
    changes = {} if kind == "phi_s" else {"projection": {"kind": kind, "dim": 5}}
    method = projected(config(kind, **changes))
    shapes = {name: tuple(head.linear.weight.shape) for name, head in method.heads.items()}
    dims = TEACHER_DIMS if kind == "phi_s" else dict.fromkeys(TEACHER_DIMS, 5)
    assert shapes == {name: (dim, STUDENT_DIM) for name, dim in dims.items()}
    student = embeddings()
    step(method, student, outputs()).total.backward()
    assert student.image.grad.abs().sum() > 0
    assert all(head.linear.weight.grad.abs().sum() > 0 for head in method.heads.values())


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize("objective", ["similarity_kl", "affinity_mimicking", "augmented_feature_fusion"])
def test_objectives_in_the_students_own_space_see_the_teacher_as_it_is(kind, objective) -> None:
    mapped = config(kind, objectives={objective: 1.0})
    plain = EmbeddingConfig.model_validate({"method": "embedding", "objectives": {objective: 1.0}})
    found = step(projected(mapped), embeddings(), outputs())
    expected = step(toy_method(plain), embeddings(), outputs())
    torch.testing.assert_close(found.total, expected.total)


@pytest.mark.parametrize("kind", FIXED)
def test_interactive_contrast_and_agreement_look_at_the_mapped_teachers(kind) -> None:
    """A map that turns a teacher by 180 degrees turns its agreement."""
    options = config(kind, objectives={"interactive_contrastive": 1.0})
    maps = {
        name: LinearMap(weight=each.weight, bias=np.zeros_like(each.bias))
        for name, each in toy_maps(dim=None if kind == "phi_s" else STUDENT_DIM).items()
    }
    turned = {name: LinearMap(weight=-each.weight, bias=each.bias) for name, each in maps.items()}
    one, other = (step(projected(options, each), embeddings(), outputs()) for each in (maps, turned))
    torch.testing.assert_close(one.agreement, -other.agreement)
    assert one.total != other.total


@pytest.mark.parametrize("kind", FIXED)
def test_what_stands_in_rows_that_a_teacher_lacks_does_not_matter(kind) -> None:
    options = config(kind, objectives={"feature_mse": 50.0, "interactive_contrastive": 1.0})
    student, spoilt = embeddings(), embeddings()
    step(projected(options), student, outputs()).total.backward()
    noisy = {
        name: replace(each, image=torch.where(each.available[:, None], each.image, 7.0))
        for name, each in outputs().items()
    }
    step(projected(options), spoilt, noisy).total.backward()
    torch.testing.assert_close(student.image.grad, spoilt.image.grad, rtol=0, atol=0)


def test_rows_that_a_teacher_lacks_stay_zero_in_its_space() -> None:
    teacher = outputs()["alpha"]
    mapped = FixedMap(toy_maps(dim=5)["alpha"]).to(DEVICE)(teacher)
    assert not teacher.available.all()
    for rows in (mapped.image, mapped.text):
        assert rows.shape == (len(ROWS), 5)
        assert not rows[~teacher.available].any()
        assert rows[teacher.available].all()


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize("rescale", ["none", "equal_gradient"])
def test_a_teacher_missing_for_a_row_changes_only_the_others_shares(kind, rescale) -> None:
    """Row 0 loses gamma: alpha and beta go from a third to a half there, and nothing else changes."""
    method = projected(config(kind, rescale=rescale))
    # The factors are those of a stage under way.
    step(method, embeddings(), available_everywhere())
    assert_only_shares_change(method)


def pull(method: Method, rows=ROWS) -> float:
    """The length of the total's gradient at the student's image and text embeddings."""
    student = embeddings(rows)
    step(method, student, outputs(rows=rows), rows=rows).total.backward()
    return torch.cat([student.image.grad.flatten(), student.text.grad.flatten()]).norm().item()


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize("objective", [*FEATURES])
@pytest.mark.parametrize("selection", ["available", "random_draw"])
def test_a_weight_pulls_alike_in_every_space(kind, objective, selection) -> None:
    chosen = {"objectives": {objective: FEATURES[objective]}, "selection": {"kind": selection}}
    learned = toy_method(config("learned_head", rescale="equal_gradient", **chosen))
    expected = pull(learned)
    assert pull(projected(config(kind, rescale="equal_gradient", **chosen))) == pytest.approx(
        expected, rel=1e-4
    )
    assert pull(projected(config(kind, **chosen))) != pytest.approx(expected, rel=1e-2)


def test_every_objective_has_a_factor_of_its_own_and_others_keep_their_weights() -> None:
    objectives = {**FEATURES, "interactive_contrastive": 1.0, "contrastive": 1.0, "similarity_kl": 1.0}
    method = projected(config("pca", rescale="equal_gradient", objectives=objectives))
    found = step(method, embeddings(), outputs())
    factors = dict(zip(method.rescale.names, method.rescale.factors.tolist(), strict=True))
    assert factors.keys() == FEATURES.keys()
    assert len(set(factors.values())) == len(factors)
    weighted = sum(method.weights[name] * factors.get(name, 1.0) * part for name, part in found.parts.items())
    torch.testing.assert_close(found.total.detach(), weighted)
    alone = projected(config("pca", rescale="equal_gradient"))
    step(alone, embeddings(), outputs())
    torch.testing.assert_close(alone.rescale.factors[0], method.rescale.factors[0])


def test_teachers_losses_are_those_that_are_trained_on() -> None:
    method = projected(config("pca", rescale="equal_gradient"))
    found = step(method, embeddings(), outputs())
    weighted = (found.teacher_losses * found.teacher_weights).sum()
    torch.testing.assert_close(weighted, found.total.detach())


def test_factors_are_those_of_the_first_batch() -> None:
    method = projected(config("pca", rescale="equal_gradient"))
    pull(method)
    first = method.rescale.factors.clone()
    pull(method, rows=range(20, 32))
    assert method.rescale.factors.equal(first)
    other = projected(config("pca", rescale="equal_gradient"))
    pull(other, rows=range(20, 32))
    assert not other.rescale.factors.equal(first)


def test_a_method_that_goes_on_has_the_factors_and_maps_that_it_began_with() -> None:
    method = projected(config("pca", rescale="equal_gradient"))
    pull(method)
    changed = {
        name: LinearMap(weight=each.weight + 1, bias=each.bias)
        for name, each in toy_maps(dim=STUDENT_DIM).items()
    }
    resumed = projected(config("pca", rescale="equal_gradient"), changed)
    resumed.load_state_dict(method.state_dict())
    assert pull(resumed, rows=range(20, 32)) == pull(method, rows=range(20, 32))
    assert resumed.rescale.factors.equal(method.rescale.factors)


def test_a_checkpoint_from_before_the_first_step_has_no_factors_yet() -> None:
    fresh = projected(config("pca", rescale="equal_gradient"))
    fresh.load_state_dict(projected(config("pca", rescale="equal_gradient")).state_dict())
    pull(fresh)
    assert fresh.rescale.factors.isfinite().all()


def test_a_batch_without_teachers_leaves_the_factors_to_the_next() -> None:
    method, other = (projected(config("pca", rescale="equal_gradient")) for _ in range(2))
    empty = step(method, embeddings(), outputs(absent=TEACHER_DIMS))
    assert empty.total.item() == 0
    assert method.rescale.factor("feature_mse") == 1
    for each in (method, other):
        step(each, embeddings(), outputs())
    assert method.rescale.factors.isfinite().all()
    assert method.rescale.factors.equal(other.rescale.factors)


def test_learned_heads_are_the_reference_and_cost_nothing() -> None:
    method = toy_method(config("learned_head", rescale="equal_gradient"))
    step(method, embeddings(), outputs())
    assert method.rescale.names == ()
    assert not [name for name in method.state_dict() if "rescale" in name or "maps" in name]


def test_measuring_leaves_the_embeddings_gradients_and_random_numbers_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    student = embeddings()
    step(projected(config("pca", rescale="equal_gradient")), student, outputs())
    assert torch.get_rng_state().equal(state)
    assert student.image.grad is None


@pytest.mark.parametrize("kind", FIXED)
def test_every_missing_map_is_told_at_once(kind) -> None:
    with pytest.raises(ConfigError) as error:
        toy_method(config(kind))
    assert len(error.value.mistakes) == len(TEACHER_DIMS)
    assert f"teacher `beta` must come with its fixed map for the projection {kind}" in str(error.value)


@pytest.mark.parametrize("kind", FIXED)
def test_two_standardizations_are_refused(kind) -> None:
    with pytest.raises(ValueError, match=r"must do without statistics with a projection other than"):
        config(kind, objectives={"cosine_smooth_l1": {"features": "standardized"}})


@pytest.mark.parametrize("kind", ["linear_autoencoder", "pca"])
def test_teachers_of_several_dims_may_be_mixed_where_their_maps_have_one(kind) -> None:
    """MMKD-CLIP's published interactive contrast, whose negatives are of several teachers."""
    published = {
        "objectives": {"interactive_contrastive": {"as_published": True}},
        "selection": {"kind": "random_draw"},
    }
    found = step(projected(config(kind, **published)), embeddings(), outputs())
    assert found.total > 0
    with pytest.raises(ConfigError, match="must have embeddings of one dim"):
        projected(config("phi_s", **published))
