"""The one reduction, and what agrees with it for any counts."""

import pytest
import torch
from torch import Tensor

from meddistill.balancing.reduce import by_row, reduce, reduce_each
from meddistill.balancing.torchjd_rule import TorchJD
from meddistill.balancing.weighting import Fixed, Uniform
from toy_balancing import generator, mask, toy_context
from toy_training import DEVICE

SEEDS = pytest.mark.parametrize("seed", range(5))
Losses = tuple[Tensor, Tensor, Tensor]


def given(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, device=DEVICE, dtype=torch.float64)


def drawn(seed: int, *, most: int) -> Losses:
    """Totals and counts from 0 to `most` of 9 rows and 4 teachers, and which rows they are selected for.

    Rows that a teacher is not selected for have neither; some that it is selected for have count 0; the last
    teacher counts nothing at all. Teachers are on several scales, as those of 4096 tokens and of 49 are.
    """
    draw = generator(seed)
    selected = torch.rand(9, 4, generator=draw) < 0.7
    scale = torch.tensor([1, 40, 3, 1]) if most > 1 else torch.ones(4, dtype=torch.int64)
    counts = torch.randint(0, most + 1, (9, 4), generator=draw) * scale * selected
    counts[:, 3] = 0
    totals = torch.rand(9, 4, generator=draw, dtype=torch.float64) * counts
    return totals.to(DEVICE), counts.double().to(DEVICE), selected.to(DEVICE)


def by_formula(totals: Tensor, counts: Tensor, weights: Tensor) -> float:
    """Σ_t W_t·(Σ_b w·total / Σ_b |w|·count) / Σ_t W_t, W_t = Σ_b |w|·[count > 0], number by number."""
    above, below = 0.0, 0.0
    for teacher in range(totals.shape[1]):
        rows = [
            (weight, total, count)
            for weight, total, count in zip(
                weights[:, teacher].tolist(),
                totals[:, teacher].tolist(),
                counts[:, teacher].tolist(),
                strict=True,
            )
            if weight and count
        ]
        if rows:
            amount = sum(abs(weight) for weight, _, _ in rows)
            quotient = sum(w * total for w, total, _ in rows) / sum(abs(w) * count for w, _, count in rows)
            above, below = above + amount * quotient, below + amount
    return above / below if below else 0.0


def weights_of(selected: Tensor, seed: int) -> Tensor:
    return (
        torch.randn(selected.shape, generator=generator(100 + seed), dtype=torch.float64).to(DEVICE)
        * selected
    )


def test_a_teacher_of_more_tokens_counts_no_more() -> None:
    counts, weights = given([4096.0, 49.0]), given([0.5, 0.5])
    assert reduce(given([1.0, 3.0]) * counts, counts, weights).item() == pytest.approx(2)


def test_within_a_teacher_it_is_a_mean_over_what_is_counted() -> None:
    totals, counts = given([6.0, 0.0], [1.0, 8.0]), given([3.0, 0.0], [1.0, 2.0])
    # (6 + 0.5) / (3 + 0.5), not a mean of means, with weight 1.5; 8 / 2 with weight 0.5.
    expected = (1.5 * 6.5 / 3.5 + 0.5 * 4) / 2
    assert reduce(totals, counts, given([1.0, 0.0], [0.5, 0.5])).item() == pytest.approx(expected)


def test_a_weight_below_zero_keeps_its_denominator_above() -> None:
    totals, counts = given([6.0, 4.0]), given([3.0, 2.0])
    # Means 2 and 2, with weights 1 and -1.5.
    assert reduce(totals, counts, given([1.0, -1.5])).item() == pytest.approx((2 - 3) / 2.5)
    assert reduce(totals, counts, given([-1.0, 1.0])).item() == pytest.approx(0)


@SEEDS
@pytest.mark.parametrize("most", [1, 2, 60])
def test_it_is_the_formula_for_any_counts(seed, most) -> None:
    totals, counts, selected = drawn(seed, most=most)
    for weights in (selected.double(), weights_of(selected, seed)):
        assert reduce(totals, counts, weights).item() == pytest.approx(by_formula(totals, counts, weights))


@SEEDS
def test_with_counts_of_0_and_1_it_is_one_quotient(seed) -> None:
    totals, counts, selected = drawn(seed, most=1)
    weights = weights_of(selected, seed)
    whole = (weights * totals).sum() / (weights.abs() * counts).sum()
    torch.testing.assert_close(reduce(totals, counts, weights), whole)
    torch.testing.assert_close(by_row(totals, counts), totals)


@SEEDS
@pytest.mark.parametrize("most", [1, 60])
def test_each_teacher_alone_has_what_it_brings_to_the_whole(seed, most) -> None:
    totals, counts, selected = drawn(seed, most=most)
    each = reduce_each(totals, counts, selected)
    for teacher in range(4):
        alone = torch.zeros_like(totals)
        alone[:, teacher] = selected[:, teacher] * 0.3
        torch.testing.assert_close(reduce(totals, counts, alone), each[teacher])
    weights = weights_of(selected, seed)
    amounts = (weights.abs() * (counts > 0)).sum(dim=0)
    parts = amounts * reduce_each(totals, counts, weights)
    torch.testing.assert_close(reduce(totals, counts, weights), parts.sum() / amounts.sum())


@SEEDS
@pytest.mark.parametrize("most", [1, 60])
def test_the_mean_of_a_teachers_rows_is_its_loss(seed, most) -> None:
    totals, counts, selected = drawn(seed, most=most)
    rows = by_row(totals, counts)
    means = rows.sum(dim=0) / (counts > 0).sum(dim=0).clamp_min(1)
    torch.testing.assert_close(means, reduce_each(totals, counts, selected))
    assert rows[counts == 0].abs().sum() == 0


@SEEDS
@pytest.mark.parametrize("method", ["random", "pcgrad", "upgrad", "stch"])
@pytest.mark.parametrize("most", [1, 60])
def test_rules_over_whole_teachers_keep_their_shares_for_any_counts(seed, method, most) -> None:
    """Σ_t α_t·ℓ̄_t; by the formula itself where an objective counts every row that is selected."""
    totals, counts, selected = drawn(seed, most=most)
    each = reduce_each(totals, counts, selected)
    rule = TorchJD(method)
    jacobian = torch.randn(4, 8, generator=generator(seed), dtype=torch.float64)
    weights = rule.weights(toy_context(selected, losses=totals + 1, jacobian=jacobian, seed=seed))
    alpha = weights.sum(dim=0) / selected.any(dim=1).sum()
    torch.testing.assert_close(rule.reduced(totals, counts, weights), (alpha * each).sum())
    counted = counts > 0
    weights = rule.weights(toy_context(counted, losses=totals + 1, jacobian=jacobian, seed=seed))
    torch.testing.assert_close(rule.reduced(totals, counts, weights), reduce(totals, counts, weights))


@pytest.mark.parametrize("rule", [Uniform(), Fixed([1.0, 2.0, 0.0, 3.0])])
def test_other_rules_are_reduced_by_the_formula(rule) -> None:
    totals, counts, selected = drawn(7, most=60)
    weights = rule.to(DEVICE).weights(toy_context(selected)).double()
    assert rule.reduced(totals, counts, weights).item() == pytest.approx(by_formula(totals, counts, weights))


def test_reduce_each_is_a_quotient_for_every_teacher() -> None:
    totals, counts = given([6.0, 1.0, 2.0], [1.0, 8.0, 2.0]), given([3.0, 1.0, 1.0], [1.0, 2.0, 1.0])
    found = reduce_each(totals, counts, mask([[1, 0, 0], [1, 1, 0]]))
    assert found.tolist() == pytest.approx([7 / 4, 8 / 2, 0])


def test_reduce_of_nothing_is_zero_with_zero_gradient() -> None:
    totals = torch.zeros(2, 2, device=DEVICE, requires_grad=True)
    nothing = torch.zeros(2, 2, device=DEVICE)
    loss = reduce(totals, nothing, nothing)
    loss.backward()
    assert loss.item() == 0
    assert totals.grad.abs().sum() == 0
