"""Rows of which a teacher has one tower and not the other."""

from dataclasses import replace

import pytest
import torch

from meddistill.methods.base import TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.mixing import mixed_rows
from meddistill.methods.teacher_losses import own_losses
from meddistill.objectives.base import TowerStatistics
from meddistill.objectives.config import MASKED
from meddistill.objectives.registry import TEACHER_OBJECTIVES
from meddistill.records import StudentOutputs, TeacherOutputs
from toy_projections import toy_maps
from toy_rows import available_where, embeddings, outputs, step, which_positives
from toy_training import DEVICE, STUDENT_DIM, TEACHER_DIMS, toy_method, toy_spaces

FEATURES = {"feature_mse", "cosine_smooth_l1", "masked_feature_distillation"}
GAPS = outputs(["alpha"], gaps=True)["alpha"]
TOWERS = ("image", "text")


def has(teacher: TeacherOutputs, *towers: str) -> torch.Tensor:
    """Rows of which the teacher has just these towers."""
    columns = [teacher.towers[tower][1] == (tower in towers) for tower in TOWERS]
    return torch.stack(columns).all(dim=0)


def config(*objectives: str, **changes) -> EmbeddingConfig:
    content = {"method": "embedding", "objectives": dict.fromkeys(objectives, 1.0), **changes}
    return EmbeddingConfig.model_validate(content)


def example() -> StudentOutputs:
    student = embeddings()
    return replace(student, passes={MASKED: (student.image + 0.1).detach().requires_grad_()})


def row_gradients(name: str, teacher: TeacherOutputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The length of the gradient at each row's embeddings of image (masked or whole) and text."""
    student = example()
    step(toy_method(config(name), names=["alpha"]), student, {"alpha": teacher}).total.backward()
    image = sum(
        0 if each.grad is None else each.grad.norm(dim=1) for each in (student.image, student.passes[MASKED])
    )
    return image, torch.zeros_like(image) if student.text.grad is None else student.text.grad.norm(dim=1)


def test_the_example_has_rows_of_every_kind() -> None:
    assert all(has(GAPS, *towers).any() for towers in ((), ("image",), ("text",), TOWERS))


@pytest.mark.parametrize("name", TEACHER_OBJECTIVES)
def test_an_objective_looks_at_the_towers_that_a_row_has(name) -> None:
    spoilt = replace(
        GAPS,
        image=torch.where(GAPS.image_available[:, None], GAPS.image, torch.nan),
        text=torch.where(GAPS.text_available[:, None], GAPS.text, torch.inf),
    )
    image, text = row_gradients(name, spoilt)
    trains = config(name).chosen[name].trains
    looked = {
        tower: (has(GAPS, *TOWERS) | (has(GAPS, tower) & (name in FEATURES))) & (tower in trains)
        for tower in TOWERS
    }
    assert (image > 0).equal(looked["image"])
    assert (text > 0).equal(looked["text"])


@pytest.mark.parametrize("name", sorted(TEACHER_OBJECTIVES.keys() - FEATURES))
def test_an_objective_of_both_towers_leaves_out_rows_with_one(name) -> None:
    method = toy_method(config(name), names=["alpha"])
    both = available_where(GAPS, has(GAPS, *TOWERS))
    found, expected = (step(method, example(), {"alpha": each}) for each in (GAPS, both))
    torch.testing.assert_close(found.total, expected.total)


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_feature_objective_is_the_mean_over_rows_of_the_terms_there_are(name) -> None:
    method = toy_method(config(name), names=["alpha"])

    def total(**changes: object) -> torch.Tensor:
        found = step(method, example(), {"alpha": replace(GAPS, **changes)})
        return found.total * found.agreement_rows[0]

    torch.testing.assert_close(total(), total(text=None) + total(image=None))


def test_agreement_is_over_the_towers_that_a_row_has() -> None:
    method = toy_method(config("feature_mse"), names=["alpha"])
    student = embeddings()
    found = step(method, student, {"alpha": GAPS})
    rows = []
    for row in range(len(GAPS.image)):
        cosines = [
            torch.cosine_similarity(method.heads["alpha"](getattr(student, tower)[row]), theirs[row], dim=0)
            for tower, (theirs, available) in GAPS.towers.items()
            if available[row]
        ]
        rows += [sum(cosines) / len(cosines)] if cosines else []
    torch.testing.assert_close(found.agreement[0], torch.stack(rows).mean())
    assert found.agreement_rows[0] == len(rows)


@pytest.mark.parametrize("name", ["cosine_smooth_l1", "feature_mse"])
@pytest.mark.parametrize("selection", ["available", "random_draw"])
def test_an_ensemble_without_text_for_a_row_asks_nothing_of_its_text(name, selection) -> None:
    """Alpha has no text tower; where it alone speaks for a row, there is no target for the text."""
    spaces = {
        teacher: TeacherSpace(
            dims={"image": dim} if teacher == "alpha" else {"image": dim, "text": dim},
            target_map=toy_maps(dim=STUDENT_DIM, unit_inputs=True)[teacher],
        )
        for teacher, dim in TEACHER_DIMS.items()
    }
    options = config(name, selection={"kind": selection}, projection={"kind": "joint_pca"}, rescale="none")
    method = build_method(options, student_dim=STUDENT_DIM, teachers=spaces, seed=0)
    teachers = outputs()
    teachers["alpha"] = replace(teachers["alpha"], text=None, text_available=None)
    for teacher in ("beta", "gamma"):
        there = teachers[teacher].available.clone()
        there[0] = False
        teachers[teacher] = available_where(teachers[teacher], there)
    available = torch.stack([teachers[teacher].available for teacher in TEACHER_DIMS], dim=1)
    selected = method.selection.select(available, torch.Generator().manual_seed(0))
    student = embeddings()
    found = step(method, student, teachers)
    found.total.backward()
    speaks = selected[:, 1:].any(dim=1)
    assert (selected[:, 0] & ~speaks).any()
    assert (student.text.grad.norm(dim=1) > 0).equal(speaks)
    assert (student.image.grad.norm(dim=1) > 0).equal(selected.any(dim=1))


def test_mixed_rows_are_those_with_both_towers() -> None:
    mixed = mixed_rows(GAPS.available[:, None], projected=[embeddings()], teachers=[GAPS])
    assert mixed.mask.equal(has(GAPS, *TOWERS))
    assert mixed.teacher.image[~mixed.mask].abs().sum() == mixed.student.text[~mixed.mask].abs().sum() == 0


def test_a_teacher_without_both_towers_of_a_row_is_neither_sure_nor_in_doubt() -> None:
    gaps, whole = outputs(gaps=True), outputs()
    teachers = [gaps["alpha"], whole["beta"], whole["gamma"]]
    selected = torch.ones(len(GAPS.image), 3, device=DEVICE).bool()
    losses = own_losses(teachers, selected, which_positives(), None)
    for row in (has(GAPS, "image") & whole["beta"].available & whole["gamma"].available).nonzero()[:, 0]:
        torch.testing.assert_close(losses[row, 0], losses[row, 1:].mean())
    alone = own_losses([GAPS], has(GAPS, *TOWERS)[:, None], which_positives(), None)
    torch.testing.assert_close(losses[has(GAPS, *TOWERS), 0], alone[has(GAPS, *TOWERS), 0])


@pytest.mark.parametrize("weighting", [{"kind": "uniform"}, {"kind": "torchjd", "method": "random"}])
def test_a_row_that_no_objective_counts_for_a_teacher_leaves_the_row_to_the_others(weighting) -> None:
    method = toy_method(config("similarity_kl", weighting=weighting))
    gaps = outputs(gaps=True)
    found = step(method, embeddings(), gaps)
    both = {name: available_where(each, has(each, *TOWERS)) for name, each in gaps.items()}
    expected = step(method, embeddings(), both)
    torch.testing.assert_close(found.total, expected.total)
    torch.testing.assert_close(found.teacher_weights, expected.teacher_weights)


@pytest.mark.parametrize("rule", ["random", "upgrad"])
def test_whole_teachers_keep_their_shares_where_objectives_count_other_rows(rule) -> None:
    """The total is Σ_t α_t·ℓ_t of the losses that the rule looked at."""
    options = config("similarity_kl", "feature_mse", weighting={"kind": "torchjd", "method": rule})
    found = step(toy_method(options), embeddings(), outputs(gaps=True))
    torch.testing.assert_close((found.teacher_weights * found.teacher_losses).sum(), found.total.detach())


def test_a_tower_of_which_the_data_has_no_row_needs_no_statistics() -> None:
    space = toy_spaces(["alpha"])["alpha"]
    ones = torch.ones(TEACHER_DIMS["alpha"], device=DEVICE)
    space = replace(space, statistics={"image": TowerStatistics(mean=0 * ones, covariance=torch.diag(ones))})
    options = EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": {"cosine_smooth_l1": {"features": "standardized"}},
         "projection": {"kind": "learned_head"}}
    )  # fmt: skip
    method = build_method(options, student_dim=STUDENT_DIM, teachers={"alpha": space}, seed=0)
    uncaptioned = replace(GAPS, text_available=torch.zeros_like(GAPS.text_available))
    found = step(method, embeddings(), {"alpha": uncaptioned})
    expected = step(method, embeddings(), {"alpha": replace(GAPS, text=None)})
    torch.testing.assert_close(found.total, expected.total)
