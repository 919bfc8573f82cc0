"""The ensemble of a row's teachers as the one teacher, by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from meddistill.errors import ConfigError, TeacherError
from meddistill.features.projections.maps import LinearMap
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.ensemble import EnsembleMethod, combine_members
from toy_projections import projected, toy_maps
from toy_rows import ROWS, available_everywhere, available_where, embeddings, outputs, step
from toy_training import DEVICE, STUDENT_DIM, TEACHER_DIMS, toy_spaces

WIDTH = sum(TEACHER_DIMS.values())


def config(**changes) -> EmbeddingConfig:
    options = {
        "method": "embedding",
        "objectives": {"feature_mse": 1.0},
        "projection": {"kind": "joint_pca"},
        "rescale": "none",
    }
    return EmbeddingConfig.model_validate({**options, **changes})


def beside() -> dict[str, LinearMap]:
    """Maps that put the teachers side by side: nothing is lost."""
    maps, start = {}, 0
    for name, dim in TEACHER_DIMS.items():
        weight = np.zeros((WIDTH, dim), dtype=np.float32)
        weight[start : start + dim] = np.eye(dim)
        maps[name] = LinearMap(weight=weight, bias=np.zeros(WIDTH, dtype=np.float32), unit_inputs=True)
        start += dim
    return maps


def target(maps, teachers, row: int, tower: str) -> torch.Tensor:
    present = [name for name in TEACHER_DIMS if teachers[name].available[row]]
    total = torch.zeros(len(next(iter(maps.values())).bias))
    for name in present:
        vector = getattr(teachers[name], tower)[row].cpu()
        total = total + torch.from_numpy(maps[name].weight) @ (vector / vector.norm())
        total = total + torch.from_numpy(maps[name].bias)
    return total / len(present) ** 0.5


@pytest.mark.parametrize("normalize", [True, False])
def test_the_student_is_compared_with_the_sum_of_its_teachers(normalize) -> None:
    """feature_mse by hand, over the rows that have a teacher; each row counts once."""
    maps = toy_maps(dim=STUDENT_DIM, unit_inputs=True)
    method = projected(
        config(objectives={"feature_mse": {"weight": 1, "normalize_targets": normalize}}), maps
    )
    assert isinstance(method, EnsembleMethod)
    assert not list(method.parameters())
    student, teachers = embeddings(), outputs()
    found = step(method, student, teachers)
    total, rows = 0.0, 0
    for row in ROWS:
        if not any(teachers[name].available[row] for name in TEACHER_DIMS):
            continue
        rows += 1
        for tower in ("image", "text"):
            wanted = target(maps, teachers, row, tower)
            wanted = wanted / wanted.norm() if normalize else wanted
            mine = getattr(student, tower)[row].detach().cpu()
            total = total + (mine / mine.norm() - wanted).square().mean()
    assert rows < len(ROWS)
    torch.testing.assert_close(found.total.cpu(), total / rows)


def test_its_cosines_are_the_mean_of_its_members() -> None:
    teachers = available_everywhere()
    method = projected(config(projection={"kind": "joint_pca", "dim": WIDTH}), beside()).to(DEVICE)
    everyone = torch.ones(len(ROWS), len(TEACHER_DIMS), device=DEVICE).bool()
    ensemble = combine_members([method.maps[name](teachers[name]) for name in TEACHER_DIMS], everyone)
    unit = torch.nn.functional.normalize
    mean = torch.stack(
        [unit(each.image, dim=-1) @ unit(each.text, dim=-1).T for each in teachers.values()]
    ).mean(dim=0)
    torch.testing.assert_close(ensemble.image @ ensemble.text.T, mean)
    assert mean.abs().max() > 0.1


def test_a_missing_teacher_changes_the_target_of_its_row_alone() -> None:
    method = projected(config())
    features = available_everywhere()
    some = torch.ones(len(ROWS), device=DEVICE).bool()
    some[0] = False
    gradients = []
    for gamma in (features["gamma"], available_where(features["gamma"], some)):
        student = embeddings()
        step(method, student, {**features, "gamma": gamma}).total.backward()
        gradients.append(student.image.grad)
    torch.testing.assert_close(gradients[0][1:], gradients[1][1:], rtol=0, atol=0)
    assert not gradients[0][0].allclose(gradients[1][0])


def test_the_teacher_that_is_drawn_is_the_whole_target() -> None:
    maps = toy_maps(dim=STUDENT_DIM, unit_inputs=True)
    teachers = available_everywhere()
    drawn = step(projected(config(selection={"kind": "random_draw"}), maps), embeddings(), teachers, seed=3)
    alone = {
        name: step(
            projected(config(), maps),
            embeddings(),
            {
                other: available_where(each, each.available & (other == name))
                for other, each in teachers.items()
            },
        ).total
        for name in TEACHER_DIMS
    }
    parts = drawn.teacher_weights.cpu()
    assert parts.sum().item() == pytest.approx(1)
    assert min(alone.values()) < drawn.total < max(alone.values())
    # One teacher a row, so that the shares are counts of rows.
    torch.testing.assert_close(parts * len(ROWS), (parts * len(ROWS)).round())


def test_the_logs_tell_of_every_member() -> None:
    maps = toy_maps(dim=STUDENT_DIM, unit_inputs=True)
    student, teachers = embeddings(), outputs()
    found = step(projected(config(), maps), student, teachers)
    for number, name in enumerate(TEACHER_DIMS):
        each, cosines = teachers[name], []
        for row in np.flatnonzero(each.available.cpu()):
            for tower in ("image", "text"):
                vector = getattr(each, tower)[row].cpu()
                mapped = torch.from_numpy(maps[name].weight) @ (vector / vector.norm())
                mapped = mapped + torch.from_numpy(maps[name].bias)
                mine = getattr(student, tower)[row].detach().cpu()
                cosines.append(torch.cosine_similarity(mapped, mine, dim=0).item())
        assert found.agreement[number].item() == pytest.approx(np.mean(cosines), abs=1e-5)
        assert found.agreement_rows[number] == each.available.sum()
    counts = torch.stack([teachers[name].available for name in TEACHER_DIMS], dim=1).float()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    expected = shares.sum(dim=0) / counts.any(dim=1).sum()
    torch.testing.assert_close(found.teacher_weights, expected)
    assert found.teacher_losses.tolist() == pytest.approx([found.total.item()] * len(TEACHER_DIMS))


def test_an_ensemble_that_is_not_compared_in_its_space_has_no_agreement() -> None:
    method = projected(config(objectives={"similarity_kl": 1.0}, projection={"kind": "joint_pca", "dim": 5}))
    found = step(method, embeddings(), outputs())
    assert not list(method.parameters())
    assert found.agreement_rows.tolist() == [0, 0, 0]


def test_a_head_leads_to_another_dim_and_every_objective_sees_the_ensemble() -> None:
    objectives = {
        "contrastive": 1.0,
        "feature_mse": 50.0,
        "interactive_contrastive": {"as_published": True},
        "similarity_kl": 1.0,
        "gradient_distillation": 1.0,
    }
    options = config(
        objectives=objectives, projection={"kind": "joint_pca", "dim": 5}, rescale="equal_gradient"
    )
    method = projected(options)
    student = embeddings()
    found = step(method, student, outputs())
    found.total.backward()
    assert found.parts.keys() == objectives.keys()
    assert student.image.grad.abs().sum() > 0
    assert all(each.grad.abs().sum() > 0 for each in method.parameters())


def test_its_logit_scale_is_the_geometric_mean() -> None:
    spaces = {
        name: replace(space, logit_scale=scale, target_map=toy_maps(dim=STUDENT_DIM)[name])
        for (name, space), scale in zip(toy_spaces().items(), (10.0, 20.0, 40.0), strict=True)
    }
    assert build_method(
        config(), student_dim=STUDENT_DIM, teachers=spaces, seed=0
    ).logit_scale == pytest.approx(20)
    spaces["beta"] = replace(spaces["beta"], logit_scale=None)
    assert build_method(config(), student_dim=STUDENT_DIM, teachers=spaces, seed=0).logit_scale is None


def test_members_without_a_tower_add_nothing_to_it() -> None:
    teachers = available_everywhere()
    members = [replace(teachers["alpha"], text=None), teachers["gamma"]]
    everyone = torch.ones(len(ROWS), 2, device=DEVICE).bool()
    found = combine_members(members, everyone)
    torch.testing.assert_close(found.text, teachers["gamma"].text)
    torch.testing.assert_close(found.image, (teachers["alpha"].image + teachers["gamma"].image) / 2**0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weighting": {"kind": "uncertainty"}}, "`weighting` must be uniform with the projection joint_pca"),
        (
            {"selection": {"kind": "teacher_dropping"}},
            "`selection` must be available, random_draw or batch_draw",
        ),
    ],
)
def test_what_needs_losses_of_each_teacher_is_refused(changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**changes)


def test_missing_maps_and_outputs_are_told() -> None:
    with pytest.raises(ConfigError) as error:
        build_method(config(), student_dim=STUDENT_DIM, teachers=toy_spaces(), seed=0)
    assert len(error.value.mistakes) == len(TEACHER_DIMS)
    with pytest.raises(TeacherError, match="must have the outputs of gamma"):
        step(projected(config()), embeddings(), {name: outputs()[name] for name in ("alpha", "beta")})
