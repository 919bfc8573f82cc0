"""Weights of small networks: what they learn as published, and what the guard keeps."""

import math
from typing import Any

import pytest
import torch

from meddistill.balancing.build import build_weighting
from meddistill.balancing.config import AttentionConfig, LossMLPConfig
from meddistill.balancing.learned import LearnedWeighting
from toy_balancing import generator, mask, toy_context
from toy_training import DEVICE

KINDS = [
    pytest.param(LossMLPConfig, {}, id="loss_mlp"),
    pytest.param(AttentionConfig, {}, id="attention"),
    pytest.param(AttentionConfig, {"keys": "pooled"}, id="attention, pooled"),
]
DIMS = {"teacher_0": 5, "teacher_1": 3, "teacher_2": 4}
ALL = [[1, 1, 1]] * 6


def rule(kind: Any, teachers: int = 3, **options: Any) -> LearnedWeighting:
    names = list(DIMS)[:teachers]
    built = build_weighting(kind(**options), teachers=names, image_dims=DIMS, seed=3)
    assert isinstance(built, LearnedWeighting)
    return built.to(DEVICE)


def context_of(rows: list[list[int]], losses: list[float], **more: Any) -> Any:
    """Every row has these losses; each teacher's images are of its own dim."""
    images = [torch.randn(len(rows), dim, generator=generator(dim)) for dim in DIMS.values()]
    return toy_context(mask(rows), losses=torch.tensor([losses] * len(rows)), images=images, **more)


def learn(weighting: LearnedWeighting, context: Any, steps: int) -> list[float]:
    """Its parameters alone; returns the mean weights."""
    descent = torch.optim.LBFGS(weighting.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        found = 1e3 * weighting.own_loss(context)
        found.backward()
        return found

    descent.step(loss)
    return weighting.weights(context).mean(dim=0).tolist()


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_they_start_equal_and_share_a_row_among_its_teachers(kind, options) -> None:
    weights = rule(kind, **options).weights(
        context_of([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], [1.0, 2.0, 3.0])
    )
    assert weights.tolist() == [
        pytest.approx([1 / 3] * 3), pytest.approx([0.5, 0, 0.5]), pytest.approx([0, 1, 0]), [0, 0, 0]
    ]  # fmt: skip
    assert not weights.requires_grad


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_as_published_all_weight_goes_to_the_easiest_teacher(kind, options) -> None:
    """Losses that never change: nothing is learnt by looking away from a teacher, and yet it is done."""
    weights = learn(rule(kind, entropy=0, **options), context_of(ALL, [1.0, 2.0, 2.0]), steps=60)
    assert weights[0] > 0.99
    assert max(weights[1:]) < 0.01


@pytest.mark.parametrize(("entropy", "scale"), [(0.5, 1e-3), (1.0, 1e3)])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_guarded_they_settle_where_the_formula_says_whatever_the_size_of_losses(
    kind, options, entropy, scale
) -> None:
    losses = [1.0, 2.0, 3.0]
    context = context_of(ALL, [scale * each for each in losses])
    weights = learn(rule(kind, entropy=entropy, **options), context, steps=60)
    shares = [math.exp(-each / (entropy * 2.0)) for each in losses]  # the mean loss is 2
    assert weights == pytest.approx([each / sum(shares) for each in shares], abs=0.01)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_gradient_of_the_logits_is_the_one_of_the_formula(kind, options) -> None:
    """As published d/dz_t = alpha_t (l_t - sum of alpha l), at equal weights; seen at the last layer."""
    context = context_of(ALL, [1.0, 2.0, 6.0])
    weighting = rule(kind, entropy=0, rate=1.0, **options)
    logits = weighting.logits(context, torch.tensor([1.0, 2.0, 6.0], device=DEVICE))
    logits = logits.expand(6, 3).detach().requires_grad_()
    weighting.logits = lambda *_: logits
    weighting.own_loss(context).backward()
    expected = [(each - 3.0) / 3 for each in (1.0, 2.0, 6.0)]
    assert (1e3 * logits.grad.sum(dim=0)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("entropy", [0.0, 1.0])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_teacher_without_rows_changes_nothing_for_the_others(kind, options, entropy) -> None:
    """Its parameters get no gradient of its weight, and the guard's mean loss leaves it out."""
    rows = [[1, 1, 0]] * 6
    weighting = rule(kind, entropy=entropy, **options)
    few, other = (context_of(rows, [1.0, 2.0, absent]) for absent in (3.0, 300.0))
    assert weighting.own_loss(few).item() == weighting.own_loss(other).item()
    weighting.own_loss(few).backward()
    assert all(each.grad.isfinite().all() for each in weighting.parameters() if each.grad is not None)
    weights = learn(weighting, few, steps=60)
    if entropy:
        easier, harder = math.exp(-1 / 1.5), math.exp(-2 / 1.5)
        assert weights == pytest.approx([easier / (easier + harder), harder / (easier + harder), 0], abs=0.01)


def test_pooled_keys_give_each_image_weights_of_its_own() -> None:
    context = context_of(ALL, [1.0, 2.0, 3.0])
    weighting = rule(AttentionConfig, keys="pooled")
    for layer in weighting.pooled:
        torch.nn.init.normal_(layer.weight, generator=torch.Generator(DEVICE).manual_seed(0))
    weights = weighting.weights(context)
    assert (weights.std(dim=0) > 0.01).all()
    assert weights.sum(dim=1).tolist() == pytest.approx([1.0] * 6)


def test_extreme_logits_stay_finite() -> None:
    context = context_of(ALL, [1.0, 2.0, 3.0])
    weighting = rule(AttentionConfig)
    with torch.no_grad():
        weighting.keys.copy_(torch.tensor([[1e4], [0.0], [-1e4]]).expand(3, 16))
    weighting.own_loss(context).backward()
    assert all(each.grad.isfinite().all() for each in weighting.parameters())
