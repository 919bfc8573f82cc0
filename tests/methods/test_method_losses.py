"""What a method makes of a global batch."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from meddistill.balancing.balance import balance
from meddistill.balancing.config import FixedConfig
from meddistill.balancing.context import TeacherQueries
from meddistill.balancing.selection import Available
from meddistill.balancing.weighting import Weighting
from meddistill.errors import ConfigError, TeacherError
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.objectives.base import RowContext
from meddistill.objectives.contrastive import Contrastive
from meddistill.records import RowLosses
from toy_rows import ROWS, assert_only_shares_change, embeddings, outputs, step, which_positives
from toy_training import (
    DEVICE,
    EMBEDDING,
    STUDENT_DIM,
    TEACHER_DIMS,
    TOY_SEED,
    toy_method,
    toy_spaces,
    toy_statistics,
)

NORMALIZED = {"features": "normalized"}
FEATURES_ALONE = {"method": "embedding", "objectives": {"feature_mse": 1.0}}


def embedding(**changes) -> EmbeddingConfig:
    return EmbeddingConfig.model_validate({**EMBEDDING, "selection": {"kind": "available"}, **changes})


def test_contrastive_is_its_objective_averaged_over_rows() -> None:
    student = embeddings()
    found = step(toy_method(ContrastiveConfig(method="contrastive")), student, {})
    rows = RowContext(mask=torch.ones(len(ROWS), device=DEVICE).bool(), positives=which_positives())
    torch.testing.assert_close(found.total, Contrastive()(student, rows).total.mean())
    assert found.parts.keys() == {"contrastive"}
    assert found.teacher_losses.shape == (0,)


def test_the_default_is_for_any_teacher_and_without_its_mean() -> None:
    """A constant that a teacher adds to all its images, as a ReLU's mean is, pulls at nothing."""
    config = EmbeddingConfig(method="embedding")
    spaces = {"alpha": replace(toy_spaces(["alpha"])["alpha"], dims={"image": TEACHER_DIMS["alpha"]})}
    teacher = replace(outputs(["alpha"])["alpha"], text=None)
    gradients = []
    for constant in (0.0, 5.0):
        statistics = toy_statistics(TEACHER_DIMS["alpha"])
        moved = {"image": replace(statistics, mean=statistics.mean + constant)}
        method = build(config, {"alpha": replace(spaces["alpha"], statistics=moved)})
        student = embeddings()
        step(method, student, {"alpha": replace(teacher, image=teacher.image + constant)}).total.backward()
        gradients.append(student.image.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_features_are_whitened_where_the_teachers_own_spaces_have_statistics() -> None:
    def features(*, statistics=True, **changes) -> str:
        config = EmbeddingConfig.model_validate(
            {"method": "embedding", "objectives": {"cosine_smooth_l1": 1.0}, **changes}
        )
        return config.resolved_objectives(statistics=statistics)["cosine_smooth_l1"].features

    assert features() == "whitened"
    assert features(statistics=False) == "normalized"
    assert features(projection={"kind": "phi_s"}) == "normalized"
    assert features(objectives={"cosine_smooth_l1": NORMALIZED}) == "normalized"


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    config = embedding()
    found = step(toy_method(config), embeddings(), outputs())
    weights = {name: options.weight for name, options in config.objectives.chosen().items()}
    assert weights.keys() == found.parts.keys()
    torch.testing.assert_close(found.total, sum(weights[name] * part for name, part in found.parts.items()))


def test_a_part_is_the_mean_over_rows_of_their_weighted_teacher_losses() -> None:
    """feature_mse by hand, with heads and weights of the method."""
    method = toy_method(
        EmbeddingConfig.model_validate(
            {**FEATURES_ALONE, "weighting": {"kind": "fixed", "weights": {"alpha": 1, "beta": 2, "gamma": 3}}}
        )
    )
    student, teachers = embeddings(), outputs()
    found = step(method, student, teachers)
    total, rows = 0.0, 0
    for row in ROWS:
        present = [name for name in TEACHER_DIMS if teachers[name].available[row]]
        factors = {"alpha": 1, "beta": 2, "gamma": 3}
        whole = sum(factors[name] for name in present)
        rows += bool(present)
        for name in present:
            for ours, theirs in ((student.image, teachers[name].image), (student.text, teachers[name].text)):
                projected = method.heads[name](ours[row])
                error = projected / projected.norm() - theirs[row] / theirs[row].norm()
                total = total + factors[name] / whole * error.square().mean()
    torch.testing.assert_close(found.total, total / rows)
    assert found.teacher_weights.sum().item() == pytest.approx(1)


def test_what_rules_look_at_has_the_mean_of_each_teachers_loss_for_any_counts() -> None:
    """Rows of many tokens and of few: their mean over a teacher's rows is its loss, not a mean of means."""
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 40, (len(ROWS), len(TEACHER_DIMS)), generator=draw).float().to(DEVICE)
    totals = counts * torch.rand(counts.shape, generator=draw).to(DEVICE)
    seen = []

    class Looking(Weighting):
        def weights(self, context):
            seen.append(context.losses)
            return torch.ones_like(context.losses)

    losses = [RowLosses(total=total, count=count) for total, count in zip(totals.T, counts.T, strict=True)]
    losses = dict(zip(TEACHER_DIMS, losses, strict=True))
    balance(
        {"feature_mse": losses, "cosine_smooth_l1": losses},
        factors={"feature_mse": 2.0, "cosine_smooth_l1": 1.0},
        rules=(Available(), Looking()),
        selected=torch.ones_like(counts, dtype=torch.bool),
        generator=draw,
        student=embeddings(),
        queries=TeacherQueries(own_losses=lambda _: totals, images=list),
    )
    (found,), rows = seen, counts > 0
    expected = 3.0 * totals.sum(dim=0) / counts.sum(dim=0)
    torch.testing.assert_close((found * rows).sum(dim=0) / rows.sum(dim=0), expected)


def test_agreement_is_the_mean_cosine_over_available_rows() -> None:
    method = toy_method(EmbeddingConfig.model_validate(EMBEDDING))
    student, teachers = embeddings(), outputs()
    found = step(method, student, teachers)
    for column, name in enumerate(TEACHER_DIMS):
        keep = teachers[name].available
        cosines = [
            torch.cosine_similarity(method.heads[name](ours)[keep], theirs[keep])
            for ours, theirs in ((student.image, teachers[name].image), (student.text, teachers[name].text))
        ]
        torch.testing.assert_close(found.agreement[column], torch.stack(cosines).mean())
        assert found.agreement_rows[column] == keep.sum()


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_agreement_is_of_what_the_objective_of_the_largest_weight_compares(weight) -> None:
    statistics = toy_statistics(TEACHER_DIMS["alpha"])
    space = replace(toy_spaces(["alpha"])["alpha"], statistics={"image": statistics, "text": statistics})
    standardized = {"weight": weight, "features": "standardized"}
    config = embedding(objectives={"feature_mse": 1.0, "cosine_smooth_l1": standardized})
    method = build(config, {"alpha": space})
    student, teacher = embeddings(), outputs(["alpha"])["alpha"]
    found = step(method, student, {"alpha": teacher}).agreement[0]
    mean, std = statistics.mean, statistics.covariance.diagonal().sqrt()
    cosines = [
        torch.cosine_similarity(method.heads["alpha"](ours), theirs if weight < 1 else (theirs - mean) / std)
        for ours, theirs in ((student.image, teacher.image), (student.text, teacher.text))
    ]
    torch.testing.assert_close(found, torch.stack(cosines)[:, teacher.available].mean())


OWN_SPACE = {"objectives": {"similarity_kl": 1.0, "augmented_feature_fusion": 1.0}}


def test_without_an_objective_in_a_teachers_space_there_is_no_head_and_no_agreement() -> None:
    method = toy_method(embedding(**OWN_SPACE))
    assert not [name for name, _ in method.named_parameters() if "heads" in name]
    student = embeddings()
    found = step(method, student, outputs())
    found.total.backward()
    assert student.image.grad.abs().sum() > 0
    assert found.agreement.tolist() == found.agreement_rows.tolist() == [0, 0, 0]


def test_a_teacher_of_weight_zero_is_as_if_it_were_not_in_the_recipe() -> None:
    """No head that nothing trains, no figure of it, and no row drawn for it."""
    draw = {"selection": {"kind": "random_draw"}}
    weights = {"alpha": 1, "beta": 0, "gamma": 3}
    method = toy_method(embedding(weighting={"kind": "fixed", "weights": weights}, **draw))
    weights = {"alpha": 1, "gamma": 3}
    without = toy_method(
        embedding(weighting={"kind": "fixed", "weights": weights}, **draw), names=["alpha", "gamma"]
    )
    assert method.teachers == without.teachers == ("alpha", "gamma")
    assert method.heads.keys() == without.heads.keys()
    found, expected = (step(each, embeddings(), outputs()) for each in (method, without))
    torch.testing.assert_close(found.total, expected.total)


def test_random_draw_lets_one_teacher_speak_for_a_row() -> None:
    method = toy_method(EmbeddingConfig.model_validate(EMBEDDING))
    student, teachers = embeddings(), outputs()
    first, again, other = (step(method, student, teachers, seed=seed) for seed in (0, 0, 1))
    assert first.total == again.total != other.total
    rows_with_teacher = torch.stack([each.available for each in teachers.values()]).any(dim=0).sum()
    shares = first.teacher_weights * rows_with_teacher
    torch.testing.assert_close(shares, shares.round())


def test_an_absent_teacher_is_as_if_it_were_not_in_the_recipe() -> None:
    """Its head gets no gradient, and loss and gradients are those of a method without it."""
    student, smaller = embeddings(), embeddings()
    with_it = toy_method(embedding())
    found = step(with_it, student, outputs(absent=["gamma"]))
    without = toy_method(embedding(), names=["alpha", "beta"])
    for name in ("alpha", "beta"):
        without.heads[name].load_state_dict(with_it.heads[name].state_dict())
    expected = step(without, smaller, outputs(["alpha", "beta"]))
    torch.testing.assert_close(found.total, expected.total)
    found.total.backward()
    expected.total.backward()
    torch.testing.assert_close(student.image.grad, smaller.image.grad)
    torch.testing.assert_close(student.text.grad, smaller.text.grad)
    assert all(parameter.grad.abs().sum() == 0 for parameter in with_it.heads["gamma"].parameters())
    assert found.teacher_losses[2] == found.teacher_weights[2] == found.agreement[2] == 0


def test_a_teacher_missing_for_a_row_only_rescales_the_gradients_of_the_others() -> None:
    """Row 0 loses gamma: alpha and beta go from a third to a half there, and nothing else changes."""
    config = EmbeddingConfig.model_validate(FEATURES_ALONE)
    assert_only_shares_change(toy_method(config))


@pytest.mark.parametrize(
    "name",
    [
        "feature_mse",
        "cosine_smooth_l1",
        "similarity_kl",
        "interactive_contrastive",
        "affinity_mimicking",
        "gradient_distillation",
        "augmented_feature_fusion",
    ],
)
def test_the_weight_of_an_objective_scales_its_gradient(name) -> None:
    gradients = []
    for weight in (1.0, 3.5):
        student = embeddings()
        config = EmbeddingConfig.model_validate({"method": "embedding", "objectives": {name: weight}})
        step(toy_method(config), student, outputs()).total.backward()
        gradients.append(student.image.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(3.5 * gradients[0], gradients[1])


def test_a_batch_without_any_teacher_still_has_a_finite_step() -> None:
    student = embeddings()
    found = step(toy_method(embedding()), student, outputs(absent=TEACHER_DIMS))
    found.total.backward()
    assert found.total.isfinite()
    assert student.image.grad.isfinite().all()
    assert sum(part for name, part in found.parts.items() if name != "contrastive") == 0


FUSING = {"objectives": {"feature_mse": 1.0, "augmented_feature_fusion": 1.0}}


def fresh_weights(method: Method) -> dict[str, Tensor]:
    """Every matrix that a method starts to learn, by name."""
    return {name: value for name, value in method.named_parameters() if value.ndim == 2}


def test_one_more_teacher_changes_no_other_head_and_no_other_layer() -> None:
    few = fresh_weights(toy_method(embedding(**FUSING), names=["gamma"]))
    many = fresh_weights(toy_method(embedding(**FUSING), names=["beta", "alpha", "gamma"]))
    assert len(few) == 3
    assert all(value.equal(many[name]) for name, value in few.items())
    state = torch.get_rng_state()
    toy_method(embedding(**FUSING))
    assert torch.get_rng_state().equal(state)


def test_every_teacher_and_objective_starts_from_numbers_of_its_own() -> None:
    """Not from those of a teacher of equal width, nor from those that a student of that seed starts from."""
    assert TEACHER_DIMS["alpha"] == TEACHER_DIMS["gamma"]
    matrices = fresh_weights(toy_method(embedding(**FUSING)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TOY_SEED)
        matrices["student"] = nn.Linear(STUDENT_DIM, TEACHER_DIMS["alpha"]).weight
    # Uniform within the root of the width, so that equal draws of other widths differ by a factor alone.
    starts = {name: value.flatten()[:20] * value.shape[1] ** 0.5 for name, value in matrices.items()}
    assert len(starts) == 10
    for one, other in itertools.combinations(starts, 2):
        assert (starts[one] - starts[other]).abs().max() > 0.1, (one, other)


def build(config: EmbeddingConfig, teachers: dict[str, TeacherSpace]) -> Method:
    return build_method(config, student_dim=STUDENT_DIM, teachers=teachers, seed=0)


def test_everything_that_teachers_lack_is_told_at_once() -> None:
    teachers = {
        "dino": TeacherSpace(dims={"image": 8}),
        "crooked": TeacherSpace(dims={"image": 8, "text": 9}, logit_scale=10.0),
        "plain": TeacherSpace(dims={"image": 8, "text": 8}),
    }
    with pytest.raises(ConfigError) as error:
        build(embedding(), teachers)
    mistakes = "\n".join(error.value.mistakes)
    assert "teacher `dino` must have image and text embeddings for the objective similarity_kl" in mistakes
    assert "teacher `dino` must have image and text embeddings for the objective interactive" in mistakes
    assert "teacher `crooked` must have image and text embeddings of one dim; got 8 and 9" in mistakes
    assert "teacher `plain` must have a logit scale" in mistakes
    assert "teacher `dino` must have a logit scale" not in mistakes
    assert "a stage of its own: `teachers: [dino]` with feature_mse or cosine_smooth_l1." in mistakes
    with pytest.raises(ConfigError, match="at least one"):
        build(embedding(), {})
    weights = {"dino": 0.0, "crooked": 0.0, "plain": 0.0, "whole": 1.0}
    weighed = embedding().model_copy(update={"weighting": FixedConfig(kind="fixed", weights=weights)})
    whole = TeacherSpace(dims={"image": 8, "text": 8}, logit_scale=10.0)
    assert build(weighed, {**teachers, "whole": whole}).teachers == ("whole",)


def test_an_image_teacher_can_give_what_images_give() -> None:
    config = EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": {"feature_mse": 1.0, "cosine_smooth_l1": NORMALIZED}}
    )
    method = build(config, {"alpha": TeacherSpace(dims={"image": TEACHER_DIMS["alpha"]})})
    student = embeddings()
    found = step(method, student, {"alpha": replace(outputs()["alpha"], text=None)})
    found.total.backward()
    assert student.image.grad.abs().sum() > 0
    assert student.text.grad is None or student.text.grad.abs().sum() == 0
    assert found.agreement[0] != 0


def test_missing_outputs_are_an_error() -> None:
    with pytest.raises(TeacherError, match="outputs of beta, gamma; got alpha"):
        step(toy_method(embedding()), embeddings(), outputs(["alpha"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": {"contrastive": 1.0}},
        {"selection": {"kind": "lottery"}},
        {"weighting": {"kind": "fixed"}},
        {"views": "fresh"},
        {"teachers": 1},
    ],
)
def test_wrong_methods_are_refused(changes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EmbeddingConfig.model_validate({**EMBEDDING, **changes})
