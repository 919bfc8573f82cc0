"""torchjd's rules through the adapter, against closed forms and their own optimality conditions."""

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from meddistill.balancing.build import build_weighting
from meddistill.balancing.config import TorchJDConfig
from meddistill.balancing.torchjd_methods import METHODS, missing_packages
from meddistill.balancing.torchjd_rule import LeastSquaresProjector, TorchJD
from toy_balancing import generator, mask, toy_context
from toy_training import DEVICE

INSTALLED = [method for method in METHODS if not missing_packages(method)]
ON_GRADIENTS = [method for method in INSTALLED if METHODS[method].gradients]
DOUBLE = torch.float64
TIGHT_MGDA = {"epsilon": 1e-10, "max_iters": 3000}


def factors(method: str, selected: Tensor | None = None, **given) -> Tensor:
    """Each teacher's weight, from rows that all have all teachers unless told otherwise."""
    options, seed = given.pop("options", {}), given.pop("seed", 0)
    number = len(given["jacobian"]) if "jacobian" in given else given["losses"].shape[1]
    selected = mask([[1] * number] * len(given.get("losses", range(3)))) if selected is None else selected
    if "losses" not in given:
        given["losses"] = torch.ones(selected.shape, dtype=DOUBLE)
    weights = TorchJD(method, options=options).weights(toy_context(selected, seed=seed, **given))
    return (weights.sum(dim=0) / selected.any(dim=1).sum().clamp_min(1)).cpu()


def rows(*vectors: list[float]) -> Tensor:
    return torch.tensor(vectors, dtype=DOUBLE)


def random_rows(teachers: int, dim: int, seed: int) -> Tensor:
    """Gradients of very different length, some in conflict."""
    draw = torch.randn(teachers, dim, dtype=DOUBLE, generator=generator(seed))
    return draw * torch.logspace(-1, 1, teachers, dtype=DOUBLE)[:, None] + 0.3


@pytest.mark.parametrize("method", INSTALLED)
def test_a_teacher_has_the_same_weight_in_all_its_rows(method) -> None:
    selected = mask([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    context = toy_context(
        selected, losses=torch.rand(5, 3, generator=generator()) + 0.5, jacobian=torch.randn(3, 6)
    )
    weights = TorchJD(method).weights(context)
    assert weights[~selected].abs().sum() == 0
    for column, keep in zip(weights.unbind(dim=1), selected.unbind(dim=1), strict=True):
        assert column[keep].unique().numel() <= 1
    assert not weights.requires_grad
    # Over four rows with a teacher.
    assert (weights.sum(dim=0) / 4).abs().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("method", INSTALLED)
def test_a_teacher_without_rows_is_as_if_it_were_not_there(method) -> None:
    """A zero row left in the Gramian would take all of mgda's weight."""
    jacobian, losses = random_rows(3, 8, seed=5), torch.tensor([[0.5, 7.0, 2.0]], dtype=DOUBLE)
    with_it = factors(method, mask([[1, 0, 1]]), jacobian=jacobian, losses=losses)
    without = factors(method, jacobian=jacobian[[0, 2]], losses=losses[:, [0, 2]], selected=mask([[1, 1]]))
    assert with_it[1] == 0
    torch.testing.assert_close(with_it[[0, 2]], without)


@pytest.mark.parametrize("method", INSTALLED)
@pytest.mark.parametrize("selected", [[[0, 0], [0, 0]], [[0, 1], [0, 0]]])
def test_no_teacher_and_one_teacher(method, selected) -> None:
    found = factors(method, mask(selected), jacobian=torch.randn(2, 4, dtype=DOUBLE))
    assert found.tolist() == [0, sum(map(sum, selected))]


@pytest.mark.parametrize("method", ON_GRADIENTS)
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_the_scale_of_the_gradients_does_not_matter(method, scale) -> None:
    jacobian = random_rows(4, 9, seed=2)
    torch.testing.assert_close(
        factors(method, jacobian=scale * jacobian), factors(method, jacobian=jacobian), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("method", INSTALLED)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
def test_numbers_that_no_rule_can_use_give_equal_weights(method, value) -> None:
    jacobian, losses = torch.full((2, 4), value), torch.full((3, 2), value)
    found = factors(method, jacobian=jacobian, losses=losses)
    assert found.isfinite().all()
    if METHODS[method].gradients:
        assert found.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", ["pcgrad", "random"])
def test_random_rules_draw_from_the_generator_of_the_step_alone(method) -> None:
    jacobian = random_rows(5, 4, seed=11)
    before = torch.get_rng_state()
    first = factors(method, jacobian=jacobian, seed=1)
    assert torch.get_rng_state().equal(before)
    torch.rand(3)
    assert factors(method, jacobian=jacobian, seed=1).equal(first)
    assert not factors(method, jacobian=jacobian, seed=2).equal(first)


@pytest.mark.parametrize("teachers", [2, 3, 5, 9])
@pytest.mark.parametrize("seed", range(3))
def test_mgda_gives_the_point_of_least_norm(teachers, seed) -> None:
    """min ‖Σ α_t g_t‖² on the simplex: g_t·d ≥ ‖d‖² for all t, with equality where α_t > 0."""
    jacobian = random_rows(teachers, 12, seed)
    alpha = factors("mgda", jacobian=jacobian, options=TIGHT_MGDA)
    direction = alpha @ jacobian
    least = direction @ direction
    scale = jacobian.square().sum(dim=1).mean()
    assert alpha.min() >= 0
    assert alpha.sum().item() == pytest.approx(1)
    assert (jacobian @ direction - least).min() >= -2e-3 * scale
    assert (alpha * (jacobian @ direction - least)).abs().max() <= 2e-3 * scale


@pytest.mark.parametrize("seed", range(6))
def test_mgda_of_two_teachers_has_a_closed_form(seed) -> None:
    one, other = random_rows(2, 5, seed)
    expected = ((other - one) @ other / (one - other).square().sum()).clamp(0, 1).item()
    assert factors("mgda", jacobian=rows(one.tolist(), other.tolist())).tolist() == pytest.approx(
        [expected, 1 - expected]
    )


@pytest.mark.parametrize(
    ("jacobian", "expected"),
    [
        (rows([2, 0], [0, 1]), [1 / 5, 4 / 5]),  # orthogonal: in proportion to 1 / ‖g‖²
        (rows([1, 2], [-1, -2]), [1 / 2, 1 / 2]),  # opposite
        (rows([3, 0], [1, 0]), [0, 1]),  # parallel: the shorter one
    ],
)
def test_mgda_by_hand(jacobian, expected) -> None:
    assert factors("mgda", jacobian=jacobian).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", ["upgrad", "dualproj"])
def test_projections_conflict_with_no_teacher(method, seed) -> None:
    jacobian = random_rows(5, 7, seed)
    assert (jacobian @ jacobian.T).min() < 0
    direction = factors(method, jacobian=jacobian) @ jacobian
    assert (jacobian @ direction).min() >= -1e-9


def test_upgrad_is_that_of_the_documentation() -> None:
    """torchjd 0.18 prints 1.1109 and 0.7894 for these gradients, with a little added to the diagonal of G."""
    found = factors("upgrad", jacobian=rows([-4, 1, 1], [6, 1, 1]))
    assert found.tolist() == pytest.approx([1.1109 / 1.9003, 0.7894 / 1.9003], abs=2e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_projector_solves_its_quadratic_program(seed) -> None:
    """min vᵀGv subject to v ≥ u: Gv ≥ 0, v ≥ u, and one of the two binds in every entry."""
    jacobian = random_rows(6, 4, seed)  # of rank 4: G is singular
    gramian = jacobian @ jacobian.T
    asked = torch.randn(3, 6, dtype=DOUBLE, generator=generator(seed))
    found = LeastSquaresProjector()(asked, gramian)
    slope, above = found @ gramian, found - asked
    assert found.shape == asked.shape
    assert above.min() >= 0
    assert slope.min() >= -1e-8 * gramian.max()
    assert (slope * above).abs().max() <= 1e-7 * gramian.max()


def test_pcgrad_of_two_teachers_by_hand() -> None:
    """g₁ loses its part along g₂ and the other way round: weights 1 - g₁·g₂/‖g‖² of each."""
    # g₁·g₂ = -1, ‖g₁‖² = 2, ‖g₂‖² = 4.
    weights = torch.tensor([1 + 1 / 2, 1 + 1 / 4])
    expected = (weights / weights.sum()).tolist()
    assert factors("pcgrad", jacobian=rows([1, 1, 0], [-1, 0, 3**0.5])).tolist() == pytest.approx(expected)
    assert factors("pcgrad", jacobian=rows([1, 1, 0], [1, 0, 1])).tolist() == pytest.approx([0.5, 0.5])


def test_imtl_g_has_the_same_part_along_every_gradient() -> None:
    jacobian = random_rows(4, 9, seed=3)
    direction = factors("imtl_g", jacobian=jacobian) @ jacobian
    parts = (jacobian / jacobian.norm(dim=1, keepdim=True)) @ direction
    torch.testing.assert_close(parts, parts.mean().expand(4), rtol=1e-6, atol=1e-9)


def test_rules_on_orthogonal_gradients_by_hand() -> None:
    """With G = diag(4, 1): aligned_mtl scales every gradient to the shortest; fairgrad: G·w = w^(-1/α)."""
    jacobian = rows([2, 0], [0, 1])
    assert factors("aligned_mtl", jacobian=jacobian).tolist() == pytest.approx([1 / 3, 2 / 3])
    found = factors("fairgrad", jacobian=jacobian, options={"alpha": 1.0})
    assert found.tolist() == pytest.approx([1 / 3, 2 / 3], rel=1e-4)


def test_scalarizers_weigh_by_their_derivatives() -> None:
    losses = torch.tensor([[0.5, 2.0], [1.5, 4.0]], dtype=DOUBLE)  # means 1 and 3
    assert factors("geometric_mean", losses=losses).tolist() == pytest.approx([3 / 4, 1 / 4])
    found = factors("stch", losses=losses, options={"mu": 2.0})
    expected = torch.tensor([1 / 4, 3 / 4], dtype=DOUBLE).softmax(dim=0)  # ℓ / (T·μ)
    assert found.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("method", "options", "scalar"),
    [
        # ½ Σℓ - λ·cos(ℓ, 1);  (Σℓ)/√2 + θ·distance to the diagonal
        ("cosmos", {"lambda": 3.0}, lambda a, b: (a + b) / 2 - 3 * (a + b) / (2 * (a * a + b * b)) ** 0.5),
        ("pbi", {"theta": 0.5}, lambda a, b: (a + b) / 2**0.5 + 0.5 * abs(a - b) / 2**0.5),
    ],
)
def test_scalarizers_with_a_preference_for_none(method, options, scalar) -> None:
    first, second, step = 1.0, 3.0, 1e-6
    slopes = torch.tensor(
        [
            scalar(first + step, second) - scalar(first - step, second),
            scalar(first, second + step) - scalar(first, second - step),
        ]
    )
    found = factors(method, losses=torch.tensor([[first, second]], dtype=DOUBLE), options=options)
    assert found.tolist() == pytest.approx((slopes / slopes.abs().sum()).tolist(), rel=1e-4, abs=1e-5)


def test_weights_below_zero_keep_their_sign() -> None:
    found = factors("pbi", losses=torch.tensor([[1.0, 3.0]], dtype=DOUBLE), options={"theta": 5.0})
    assert found[0] < 0 < found[1]
    assert found.abs().sum().item() == pytest.approx(1)


def test_the_gramian_is_of_all_embeddings() -> None:
    jacobian = random_rows(3, 7, seed=1)
    context = toy_context(mask([[1, 1, 1]]), jacobian=jacobian, losses=torch.ones(1, 3, dtype=DOUBLE))
    torch.testing.assert_close(context.gramian().cpu(), jacobian @ jacobian.T)
    # It can be asked again: the graph stays for the final backward.
    torch.testing.assert_close(context.gramian().cpu(), jacobian @ jacobian.T)


@pytest.mark.parametrize("method", ["cagrad", "nash_mtl"])
def test_rules_of_optional_packages(method) -> None:
    jacobian = rows([2, 0], [0, 1])
    found = factors(method, jacobian=jacobian)
    # cagrad leans from the mean towards the least norm; nash_mtl solves G·w = 1 / w.
    assert found[0] < found[1]
    if method == "nash_mtl":
        assert found.tolist() == pytest.approx([1 / 3, 2 / 3], rel=1e-2)
    else:
        assert factors("cagrad", jacobian=jacobian, options={"c": 0}).tolist() == pytest.approx([0.5, 0.5])


def test_recipes_name_a_rule_and_its_options() -> None:
    config = TorchJDConfig(method="mgda", options={"max_iters": 7})
    assert build_weighting(config, teachers=("alpha", "beta"))._rule.max_iters == 7
    for method in METHODS:
        assert TorchJDConfig(method=method).options == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"method": "mgdaa"}, "Input should be"),
        ({"method": "mgda", "options": {"c": 1}}, "`c` must be an option of mgda, which are epsilon, max_i"),
        ({"method": "upgrad", "options": {"c": 1}}, "which are none"),
        ({"method": "mgda", "options": {"epsilon": 0}}, "`epsilon` must be a number above 0; got 0"),
        ({"method": "mgda", "options": {"max_iters": 2.5}}, "`max_iters` must be a whole number from 1"),
        ({"method": "cagrad", "options": {"c": -1}}, "`c` must be a number from 0; got -1"),
        ({"method": "aligned_mtl", "options": {"scale_mode": "mean"}}, "must be one of min, median, rmse"),
    ],
)
def test_wrong_rules_and_options_are_refused(content, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TorchJDConfig.model_validate(content)


def test_all_wrong_options_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        TorchJDConfig(method="mgda", options={"epsilon": "small", "steps": 3})
    assert "`epsilon`" in str(error.value)
    assert "`steps`" in str(error.value)


@pytest.mark.parametrize(("method", "option"), [
    (method, option) for method, found in METHODS.items() for option in found.options
])  # fmt: skip
def test_the_default_of_an_option_keeps_its_rule(method, option) -> None:
    chosen = METHODS[method].options[option]
    assert chosen.kept(chosen.default)


def test_devices_agree() -> None:
    jacobian = random_rows(3, 6, seed=9)
    found = TorchJD("upgrad").weights(toy_context(mask([[1, 1, 1]]), jacobian=jacobian.float()))
    assert found.device.type == DEVICE.type
    assert found.dtype == torch.float32


def test_two_teachers_at_most_of_three_in_any_row_keep_the_direction() -> None:
    """Whoever has which rows, Σ_b w_bt is what the rule says, so no row pattern turns the direction."""
    jacobian = random_rows(3, 8, seed=4)
    expected = factors("mgda", jacobian=jacobian)
    for pattern in itertools.permutations([[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]]):
        torch.testing.assert_close(factors("mgda", mask(pattern), jacobian=jacobian), expected)
