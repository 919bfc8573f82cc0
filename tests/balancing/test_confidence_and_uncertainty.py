"""Weightings that learn, or that ask the teachers."""

import math

import pytest
import torch

from meddistill.balancing.build import build_weighting
from meddistill.balancing.confidence import Confidence
from meddistill.balancing.config import ConfidenceConfig, UncertaintyConfig
from meddistill.balancing.uncertainty import Uncertainty
from toy_balancing import mask, toy_context
from toy_training import DEVICE

SELECTED = [[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]


def uncertainty(log_variances: list[float], rate: float = 10.0) -> Uncertainty:
    weighting = Uncertainty(len(log_variances), rate=rate)
    with torch.no_grad():
        weighting.scaled.copy_(torch.tensor(log_variances) / rate)
    return weighting.to(DEVICE)


def confidence(own: list[list[float]], selected: list[list[int]], scale: float | None = None) -> list:
    context = toy_context(mask(selected), own=torch.tensor(own))
    return Confidence(teacher_scale=scale).weights(context).tolist()


def test_uncertainty_starts_uniform_and_is_the_share_of_the_precisions() -> None:
    start = Uncertainty(3).to(DEVICE).weights(toy_context(mask(SELECTED)))
    assert start[0].tolist() == pytest.approx([1 / 3] * 3)
    # exp(-s) = 1, 1/2, 1/4.
    weights = uncertainty([0.0, math.log(2), math.log(4)]).weights(toy_context(mask(SELECTED)))
    assert weights.tolist() == [
        pytest.approx([4 / 7, 2 / 7, 1 / 7]),
        pytest.approx([4 / 5, 0, 1 / 5]),
        pytest.approx([0, 1, 0]),
        pytest.approx([0, 0, 0]),
    ]
    assert not weights.requires_grad


def test_uncertainty_of_any_size_gives_finite_weights() -> None:
    weights = uncertainty([300.0, 0.0, -300.0]).weights(toy_context(mask(SELECTED)))
    assert weights.tolist() == [
        pytest.approx([0, 0, 1]), pytest.approx([0, 0, 1]), pytest.approx([0, 1, 0]), [0, 0, 0]
    ]  # fmt: skip


def test_log_variances_learn_from_their_own_teachers_mean_loss_alone() -> None:
    """d/ds of exp(-s)·ℓ + s is 1 - exp(-s)·ℓ; a teacher without rows has none."""
    losses = torch.tensor([[2.0, 5.0, 100.0], [4.0, 7.0, 100.0]])
    context = toy_context(mask([[1, 1, 0], [1, 0, 0]]), losses=losses)
    weighting = uncertainty([math.log(2), 0.0, 1.0], rate=4.0)
    loss = weighting.own_loss(context)
    # Means: 3 and 5.
    assert loss.item() == pytest.approx(1e-3 / 4 * (3 / 2 + math.log(2) + 5 + 0))
    loss.backward()
    assert weighting.scaled.grad.tolist() == pytest.approx([1e-3 * (1 - 3 / 2), 1e-3 * (1 - 5), 0])
    assert all(leaf.grad is None for leaf in context.embeddings)


def test_log_variances_go_to_the_logarithms_of_the_losses() -> None:
    context = toy_context(mask([[1, 1]]), losses=torch.tensor([[0.5, 30.0]]))
    weighting = Uncertainty(2).to(DEVICE)
    optimizer = torch.optim.AdamW(weighting.parameters(), lr=5e-3, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(400):
        optimizer.zero_grad()
        weighting.own_loss(context).backward()
        optimizer.step()
    assert weighting.log_variances.tolist() == pytest.approx([math.log(0.5), math.log(30)], abs=0.02)
    assert weighting.weights(context)[0].tolist() == pytest.approx([60 / 61, 1 / 61], rel=0.03)


def test_the_rate_moves_log_variances_by_so_many_learning_rates() -> None:
    for rate in (1.0, 50.0):
        weighting = Uncertainty(1, rate=rate).to(DEVICE)
        optimizer = torch.optim.AdamW(weighting.parameters(), lr=1e-4, weight_decay=0.0)
        weighting.own_loss(toy_context(mask([[1]]), losses=torch.tensor([[20.0]]))).backward()
        optimizer.step()
        assert weighting.log_variances.item() == pytest.approx(rate * 1e-4, rel=1e-3)


def test_confidence_is_the_published_formula() -> None:
    # softmax of ln 1, ln 2, ln 5 is 1/8, 2/8, 5/8; without the second 1/6 and 5/6.
    own = [[math.log(1), math.log(2), math.log(5)]] * 4
    assert confidence(own, SELECTED) == [
        pytest.approx([7 / 16, 6 / 16, 3 / 16]),
        pytest.approx([5 / 6, 0, 1 / 6]),
        pytest.approx([0, 1, 0]),
        pytest.approx([0, 0, 0]),
    ]


def test_confidence_asks_with_the_scale_of_the_recipe() -> None:
    assert confidence([[math.log(3), 0.0]], [[1, 1]]) == [pytest.approx([1 / 4, 3 / 4])]
    assert confidence([[math.log(3), 0.0]], [[1, 1]], scale=2.0) == [pytest.approx([1 / 10, 9 / 10])]


def test_confidence_in_one_row_is_not_that_in_another() -> None:
    own = [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]
    whole, without = confidence(own, [[1, 1, 1], [1, 1, 1]]), confidence(own, [[1, 1, 0], [1, 1, 1]])
    assert whole[1] == without[1]
    assert whole[0] != without[0]
    assert sum(without[0]) == pytest.approx(1)


def test_recipes_name_them() -> None:
    weighting = build_weighting(UncertaintyConfig(rate=3.0), teachers=("alpha", "beta"))
    assert isinstance(weighting, Uncertainty)
    assert (weighting.rate, weighting.scaled.shape) == (3.0, (2,))
    asked = build_weighting(ConfidenceConfig(teacher_scale=5.0), teachers=("alpha",))
    assert isinstance(asked, Confidence)
    assert asked.teacher_scale == 5.0
