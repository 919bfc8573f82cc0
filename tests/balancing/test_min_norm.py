"""The shortest mixture of gradients, against its optimality conditions, closed forms and another solver."""

import numpy as np
import pytest
import torch
from torch import Tensor

from meddistill.balancing.build import build_weighting
from meddistill.balancing.config import MinNormConfig
from meddistill.balancing.least_norm import at_most, least_norm
from meddistill.balancing.min_norm import MinNorm
from toy_balancing import generator, mask, toy_context
from toy_training import DEVICE

DOUBLE = torch.float64
EXTREMES = [1e-10, 1e-3, 1.0, 1e4, 1e15]


def random_rows(teachers: int, dim: int = 12, seed: int = 0, common: float = 0.3) -> Tensor:
    """Gradients of very different length, some in conflict."""
    draw = torch.randn(teachers, dim, dtype=DOUBLE, generator=generator(seed))
    return draw * torch.logspace(-1, 1, teachers, dtype=DOUBLE)[:, None] + common


def rows(*vectors: list[float]) -> Tensor:
    return torch.tensor(vectors, dtype=DOUBLE)


def shares(jacobian: Tensor, selected: list[list[int]] | None = None, rule=None, **options) -> Tensor:
    """Each teacher's weight, from rows that all have all teachers unless told otherwise."""
    selected = mask(selected or [[1] * len(jacobian)] * 3)
    rule = rule or MinNorm(len(jacobian), **options).to(DEVICE)
    context = toy_context(
        selected, jacobian=jacobian, losses=torch.ones(selected.shape, dtype=DOUBLE, device=DEVICE)
    )
    weights = rule.weights(context)
    return (weights.sum(dim=0) / selected.any(dim=1).sum().clamp_min(1)).cpu()


def best_exchange(gramian: np.ndarray, alpha: np.ndarray, cap: float) -> float:
    """What moving weight from one teacher to another can take off ½|d|² at most, as a share of it.

    For a convex problem on the simplex with bounds, no gain by any exchange is what optimal means (KKT).
    """
    slope, squares = gramian @ alpha, gramian.diagonal()
    best = 0.0
    for one, other in np.ndindex(gramian.shape):
        most, gain = min(alpha[one], cap - alpha[other]), slope[one] - slope[other]
        apart = squares[one] + squares[other] - 2 * gramian[one, other]
        if most > 0 and gain > 0:
            moved = min(most, gain / apart) if apart > 0 else most
            best = max(best, moved * gain - moved**2 * apart / 2)
    rounding = 1e-13 * (alpha @ np.sqrt(squares)) ** 2
    return best / (alpha @ slope / 2 + rounding)


@pytest.mark.parametrize("teachers", range(2, 10))
@pytest.mark.parametrize("bound", [1.0, 0.6, "1.5/M", "1.01/M"])
def test_no_exchange_between_two_teachers_shortens_it(teachers, bound) -> None:
    cap = bound if isinstance(bound, float) else min(1.0, float(bound.removesuffix("/M")) / teachers)
    for seed, scale in enumerate(EXTREMES):
        for dim in (3, 40):  # of rank 3: the origin may lie among them
            jacobian = random_rows(teachers, dim, seed)
            jacobian[0] *= scale
            alpha = shares(jacobian, max_weight=cap).numpy()
            assert alpha.min() >= 0
            assert alpha.max() <= cap * (1 + 1e-9)
            assert alpha.sum() == pytest.approx(1, abs=1e-12)
            assert best_exchange((jacobian @ jacobian.T).numpy(), alpha, cap) < 1e-9


@pytest.mark.parametrize("teachers", [2, 3, 6, 9])
@pytest.mark.parametrize("cap", [1.0, 0.6])
def test_another_solver_finds_no_shorter_one(teachers, cap) -> None:
    import cvxpy  # here, for it takes seconds that only one process need spend

    for seed in range(3):
        jacobian = random_rows(teachers, seed=seed)
        variable = cvxpy.Variable(teachers)
        norm = cvxpy.sum_squares(jacobian.numpy().T @ variable)
        bounds = [cvxpy.sum(variable) == 1, variable >= 0, variable <= cap]
        expected = cvxpy.Problem(cvxpy.Minimize(norm), bounds).solve(solver=cvxpy.CLARABEL)
        alpha = shares(jacobian, max_weight=cap)
        assert (alpha @ jacobian).square().sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-8)
        np.testing.assert_allclose(alpha, variable.value, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cap", [1.0, 0.6, 0.5])
def test_two_teachers_have_a_closed_form_which_the_solver_knows_too(seed, cap) -> None:
    one, other = jacobian = random_rows(2, 5, seed)
    expected = ((other - one) @ other / (one - other).square().sum()).clamp(1 - cap, cap).item()
    assert shares(jacobian, max_weight=cap).tolist() == pytest.approx([expected, 1 - expected])
    solved = least_norm((jacobian @ jacobian.T).numpy(), cap)
    assert solved.tolist() == pytest.approx([expected, 1 - expected])


@pytest.mark.parametrize("teachers", [2, 4])
@pytest.mark.parametrize("scale", EXTREMES)
def test_orthogonal_gradients_have_weights_by_their_inverse_squares(teachers, scale) -> None:
    lengths = torch.arange(1.0, teachers + 1, dtype=DOUBLE)
    lengths[-1] *= scale
    expected = lengths**-2 / (lengths**-2).sum()
    torch.testing.assert_close(shares(lengths.diag()), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("jacobian", "expected"),
    [
        (rows([1, 2], [1, 2]), [1 / 2, 1 / 2]),  # identical
        (rows([0.1, 0.2], [0.1, 0.2]), [1 / 2, 1 / 2]),
        (rows([1, 2], [-1, -2]), [1 / 2, 1 / 2]),  # opposite
        (rows([3, 0], [1, 0]), [0, 1]),  # parallel: the shorter one
        (rows([0, 0], [1, 5]), [1, 0]),
        (rows([0, 0], [0, 0]), [1 / 2, 1 / 2]),
        (rows([0, 0, 0], [1, 0, 0], [0, 1, 1]), [1, 0, 0]),
        (rows([0, 0], [0, 0], [0, 0]), [1 / 3] * 3),
        (rows([2, 0], [-1, 0], [0, 9]), [1 / 3, 2 / 3, 0]),
    ],
)
def test_by_hand(jacobian, expected) -> None:
    found = shares(jacobian)
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_a_teacher_without_a_gradient_takes_what_it_may_and_the_others_share_the_rest() -> None:
    jacobian = torch.cat([torch.zeros(1, 8, dtype=DOUBLE), random_rows(3, 8)])
    found = shares(jacobian, max_weight=0.4)
    assert found[0].item() == pytest.approx(0.4)
    assert best_exchange((jacobian @ jacobian.T).numpy(), found.numpy(), 0.4) < 1e-9


@pytest.mark.parametrize("teachers", [2, 5])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_least_bound_is_equal_weights(teachers, normalize) -> None:
    found = shares(random_rows(teachers), max_weight=1 / teachers, normalize=normalize)
    torch.testing.assert_close(found, torch.full((teachers,), 1 / teachers, dtype=DOUBLE))


@pytest.mark.parametrize("teachers", [2, 3, 5, 9])
@pytest.mark.parametrize("normalize", [False, True])
def test_without_a_bound_no_teachers_loss_rises(teachers, normalize) -> None:
    """MGDA: <g_t, d> ≥ |d|² for all t; of unit gradients likewise, with d in proportion."""
    for seed in range(4):
        jacobian = random_rows(teachers, seed=seed)
        direction = shares(jacobian, normalize=normalize) @ jacobian
        if normalize:
            jacobian = jacobian / jacobian.norm(dim=1, keepdim=True)
            unit = direction / direction.norm()
            least = (jacobian @ unit).min()
            direction = unit * least
        slack = jacobian @ direction - direction.square().sum()
        assert slack.min().item() >= -1e-8 * jacobian.square().sum(dim=1).max().item()


def test_normalized_gradients_decide_by_their_directions_alone() -> None:
    jacobian, scale = random_rows(4), torch.tensor([1e-6, 3.0, 1e5, 1.0], dtype=DOUBLE)[:, None]
    directions = [shares(each, normalize=True) @ each for each in (jacobian, scale * jacobian)]
    unit = [each / each.norm() for each in directions]
    torch.testing.assert_close(*unit, rtol=1e-6, atol=1e-8)
    plain = shares(jacobian) @ jacobian
    assert torch.cosine_similarity(plain, directions[0], dim=0) < 0.99
    assert shares(scale * jacobian, normalize=True, max_weight=0.5).max() <= 0.5 + 1e-9


def test_fewer_teachers_raise_the_bound_and_are_as_if_there_were_no_others() -> None:
    jacobian = random_rows(4)
    found = shares(jacobian, [[1, 0, 1, 0], [0, 0, 1, 0]], max_weight=0.3)
    torch.testing.assert_close(found, torch.tensor([0.5, 0, 0.5, 0], dtype=DOUBLE))
    found = shares(jacobian, [[1, 0, 1, 1], [0, 0, 1, 0]], max_weight=0.5)
    torch.testing.assert_close(found[[0, 2, 3]], shares(jacobian[[0, 2, 3]], max_weight=0.5))
    assert found[1] == 0
    assert shares(jacobian, [[0, 0, 1, 0]]).tolist() == [0, 0, 1, 0]
    assert shares(jacobian, [[0, 0, 0, 0]]).tolist() == [0, 0, 0, 0]
    assert shares(jacobian[:2], [[0, 1]]).tolist() == [0, 1]


@pytest.mark.parametrize("teachers", [2, 3])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_drops_nobody_and_leaves_the_mean_as_it_was(teachers, value) -> None:
    rule = MinNorm(teachers, smoothing=0.5).to(DEVICE)
    jacobian = random_rows(teachers)
    shares(jacobian, rule=rule)
    before = rule.relative.clone()
    jacobian[0, 1] = value
    assert shares(jacobian, rule=rule).tolist() == pytest.approx([1 / teachers] * teachers)
    assert rule.relative.equal(before)


@pytest.mark.parametrize("teachers", [2, 3])
def test_smoothing_is_a_running_mean_that_starts_at_equal_weights(teachers) -> None:
    rule = MinNorm(teachers, smoothing=0.8).to(DEVICE)
    mean = torch.full((teachers,), 1 / teachers, dtype=DOUBLE)
    for seed in range(4):
        jacobian = random_rows(teachers, seed=seed)
        mean = 0.8 * mean + 0.2 * shares(jacobian)
        torch.testing.assert_close(shares(jacobian, rule=rule), mean)


def test_a_teacher_that_was_away_keeps_its_part_in_the_mean() -> None:
    rule, jacobian = MinNorm(3, smoothing=0.5).to(DEVICE), random_rows(3)
    first = shares(jacobian, rule=rule)
    shares(jacobian, [[1, 0, 1]], rule=rule)
    assert rule.relative[0, 1].item() / 3 == pytest.approx(first[1].item())


def test_every_third_step_finds_weights_which_are_kept_between() -> None:
    rule = MinNorm(3, every=3, max_weight=0.7).to(DEVICE)
    found = [shares(random_rows(3, seed=seed), rule=rule) for seed in range(4)]
    expected = [shares(random_rows(3, seed=seed), max_weight=0.7) for seed in (0, 0, 0, 3)]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected))
    assert not found[0].equal(found[3])
    # Between, the others of a missing teacher keep their proportions, up to the bound.
    rest = shares(random_rows(3, seed=9), [[0, 1, 1]], rule=rule)
    torch.testing.assert_close(rest[1:], at_most(found[3][None, 1:], torch.tensor([[0.7]], dtype=DOUBLE))[0])


def test_the_state_is_saved_and_taken_up_again() -> None:
    options = {"smoothing": 0.5, "every": 2}
    rule, other = MinNorm(3, **options).to(DEVICE), MinNorm(3, **options).to(DEVICE)
    for seed in range(3):
        shares(random_rows(3, seed=seed), rule=rule)
    other.load_state_dict(rule.state_dict())
    for seed in range(3, 6):
        jacobian = random_rows(3, seed=seed)
        assert shares(jacobian, rule=other).equal(shares(jacobian, rule=rule))


def test_at_most_keeps_proportions_below_the_bound() -> None:
    amounts = rows([8, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [5, 4, 1, 0])
    caps = rows([0.6], [0.25], [0.5], [0.4])
    expected = rows([0.6, 0.2, 0.2, 0], [0.25] * 4, [0] * 4, [0.4, 0.4, 0.2, 0])
    torch.testing.assert_close(at_most(amounts, caps), expected)


def grouped_context(selected: Tensor, groups: list[int], gradients: Tensor):
    """Teacher t's loss is the mean over its rows of <gradients[t, row], embedding of the row>."""
    from dataclasses import replace

    leaf = torch.zeros(gradients.shape[1:], dtype=DOUBLE, device=DEVICE, requires_grad=True)
    of_rows = torch.einsum("tbd,bd->bt", gradients.to(DEVICE), leaf) * selected
    losses = list(of_rows.sum(dim=0) / selected.sum(dim=0).clamp_min(1))
    return replace(
        toy_context(selected, losses=torch.ones(selected.shape, dtype=DOUBLE)),
        groups=torch.tensor(groups, device=DEVICE),
        embeddings=(leaf,),
        teacher_losses=lambda: losses,
    )


@pytest.mark.parametrize("teachers", [2, 3])
def test_each_group_of_rows_has_the_weights_of_its_own_batch(teachers) -> None:
    selected = mask([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])[:, :teachers]
    groups = [0, 2, 0, 2, 2, 0]
    gradients = torch.randn(teachers, 6, 4, dtype=DOUBLE, generator=generator(3))
    rule = MinNorm(teachers, groups=3).to(DEVICE)
    context = grouped_context(selected, groups, gradients)
    weights = rule.weights(context)
    for group in (0, 2):
        chosen = [row for row, each in enumerate(groups) if each == group]
        alone = MinNorm(teachers).to(DEVICE)
        part = grouped_context(selected[chosen], [0] * len(chosen), gradients[:, chosen])
        torch.testing.assert_close(weights[chosen], alone.weights(part))
        number = selected[chosen].any(dim=1).sum()
        assert weights[chosen].sum().item() == pytest.approx(number.item())
    assert weights[~selected].abs().sum() == 0
    # A group without rows keeps its equal start.
    assert rule.relative[1].tolist() == [1] * teachers
    # The log's cosines are of the whole batch.
    whole = grouped_context(selected, groups, gradients)
    torch.testing.assert_close(whole.gramian(), context.gramians(rule.members(context)).sum(dim=0))
    torch.testing.assert_close(context.reported[0].totals, whole.reported[0].totals)


def test_what_is_reported_of_the_gradients() -> None:
    jacobian = rows([2, 0, 0], [-3, 0, 0], [1, 1, 0], [0, 0, 0])
    context = toy_context(mask([[1, 1, 1, 1]]), jacobian=jacobian, losses=torch.ones(1, 4, dtype=DOUBLE))
    context.gramian()
    (found,) = context.reported
    entries = zip(found.totals.tolist(), found.counts.tolist(), strict=True)
    read = dict(zip(found.names, entries, strict=True))
    root = 2**-0.5
    assert read["teacher/teacher_1/gradient_norm"] == (3, 1)
    assert read["gradients/cosine/teacher_0/teacher_1"] == (pytest.approx(-1), 1)
    assert read["gradients/cosine/teacher_0/teacher_2"] == (pytest.approx(root), 1)
    assert read["gradients/cosine/teacher_1/teacher_2"] == (pytest.approx(-root), 1)
    assert read["gradients/cosine/teacher_0/teacher_3"] == (0, 0)  # it has no direction
    assert read["gradients/conflict"] == (2, 3)


def test_recipes_name_the_rule_and_its_options() -> None:
    config = MinNormConfig(max_weight=0.6, normalize=True, smoothing=0.9, every=4, by="scanner")
    rule = build_weighting(config, teachers=("alpha", "beta"), groups=5)
    assert (rule.max_weight, rule.normalize, rule.smoothing, rule.every) == (0.6, True, 0.9, 4)
    assert rule.relative.shape == (5, 2)
    assert build_weighting(MinNormConfig(), teachers=("alpha",), groups=5).groups == 1
