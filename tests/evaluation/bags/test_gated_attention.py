"""Gated attention against torch and torchmil, and what it learns."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from meddistill.evaluation.tasks.bags.attention import attend, fit_attention
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.gated import AdamW, GatedAttention, Shape
from meddistill.evaluation.tasks.bags.labelled import LabelledBags

SHAPE = Shape(width=6, hidden=5, classes=3)
RANDOM = np.random.default_rng(0)


def _config(**more: object) -> BagClassificationConfig:
    content = {"name": "bags", "kind": "bag_classification", "train": "train", "test": "test", **more}
    return BagClassificationConfig.model_validate(content)


def _model() -> GatedAttention:
    size = len(SHAPE.drawn(np.random.default_rng(0)))
    return GatedAttention(SHAPE, np.random.default_rng(1).normal(size=size))


def _bags(count: int = 40, *, width: int = 6, seed: int = 0) -> LabelledBags:
    """Class 1 where one of a bag's four to nine instances has a high first feature."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    features = []
    for label in truth:
        bag = random.normal(size=(random.integers(4, 10), width))
        bag[0, 0] = 6.0 if label else bag[0, 0]
        features.append(bag[random.permutation(len(bag))].astype(np.float32))
    return LabelledBags(features=tuple(features), truth=truth)


def test_pooling_is_that_of_torchmil() -> None:
    nn = pytest.importorskip("torchmil.nn")
    model, bag = _model(), RANDOM.normal(size=(7, 6))
    own = {name: torch.from_numpy(part) for name, part in SHAPE.views(model.flat).items()}
    pool = nn.AttentionPool(in_dim=6, att_dim=5, gated=True).double()
    pool.load_state_dict(
        {
            "fc1.module.weight": own["content"],
            "fc1.module.bias": own["content_bias"],
            "fc_gated.module.weight": own["gate"],
            "fc_gated.module.bias": own["gate_bias"],
            "fc2.weight": own["score"][None],
        }
    )
    pooled, scores = pool(torch.from_numpy(bag)[None], return_att=True)
    logits = own["classifier"] @ pooled[0] + own["classifier_bias"]
    probabilities, attention = model(bag)
    np.testing.assert_allclose(attention, torch.softmax(scores[0], dim=0).detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(probabilities, torch.softmax(logits, dim=0).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("instances", [1, 7])
def test_the_gradient_is_that_of_torch(instances: int, dropout: bool) -> None:
    model, bag = _model(), RANDOM.normal(size=(instances, 6))
    kept = (RANDOM.random((instances, 5)) < 0.6) / 0.6 if dropout else None
    flat = torch.from_numpy(model.flat.copy()).requires_grad_()
    views, start = {}, 0
    for name, size in SHAPE.sizes.items():
        views[name] = flat[start : start + int(np.prod(size))].reshape(size)
        start += int(np.prod(size))
    rows = torch.from_numpy(bag)
    hidden = torch.tanh(rows @ views["content"].T + views["content_bias"])
    hidden = hidden * torch.sigmoid(rows @ views["gate"].T + views["gate_bias"])
    hidden = hidden if kept is None else hidden * torch.from_numpy(kept)
    pooled = torch.softmax(hidden @ views["score"], dim=0) @ rows
    logits = views["classifier"] @ pooled + views["classifier_bias"]
    loss = 1.7 * functional.cross_entropy(logits[None], torch.tensor([2]))
    loss.backward()
    found, gradient = model.gradient(bag, 2, weight=1.7, kept=kept)
    assert found == pytest.approx(loss.item())
    np.testing.assert_allclose(gradient, flat.grad.numpy(), atol=1e-12)


def test_steps_are_those_of_torch() -> None:
    mine = RANDOM.normal(size=9)
    theirs = torch.from_numpy(mine.copy()).requires_grad_()
    own = AdamW(mine, weight_decay=0.1)
    optimizer = torch.optim.AdamW([theirs], weight_decay=0.1)
    for step in range(20):
        gradient, rate = RANDOM.normal(size=9), 0.1 / (1 + step)
        own.step(gradient, rate)
        theirs.grad = torch.from_numpy(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-10)


def test_it_finds_the_instance_that_decides() -> None:
    config = _config(epochs=30, learning_rate=3e-3)
    model = fit_attention(_bags(200), None, classes=2, seed=0, config=config)
    test = _bags(20, seed=1)
    found = attend(model, test.features)
    assert (found.probabilities.argmax(axis=1) == test.truth).mean() >= 0.95
    assert all(weights.sum() == pytest.approx(1, abs=1e-5) for weights in found.attention)
    ill = [row for row, label in enumerate(test.truth) if label]
    hits = [found.attention[row].argmax() == test.features[row][:, 0].argmax() for row in ill]
    assert np.mean(hits) >= 0.9


def test_a_seed_gives_the_same_numbers_again_and_another_gives_others() -> None:
    bags = _bags(12)
    one, again, other = (
        fit_attention(bags, None, classes=2, seed=seed, config=_config(most_instances=3)).flat
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_validation_chooses_the_epoch() -> None:
    """At such a rate training goes to and fro; the chosen epoch is at least as good as the last."""
    train, validation = _bags(16), _bags(30, seed=5)
    config = _config(epochs=12, learning_rate=0.05)

    def right(model: GatedAttention) -> float:
        return float((attend(model, validation.features).probabilities.argmax(1) == validation.truth).mean())

    chosen = fit_attention(train, validation, classes=2, seed=3, config=config)
    last = fit_attention(train, None, classes=2, seed=3, config=config)
    assert right(chosen) >= right(last)


def test_a_rare_class_counts_where_the_loss_is_balanced() -> None:
    """Features tell nothing: balanced, both classes are about as likely; else the common one wins."""
    random = np.random.default_rng(0)
    features = tuple(random.normal(size=(3, 4)).astype(np.float32) for _ in range(60))
    bags = LabelledBags(features=features, truth=(np.arange(60) % 10 == 0).astype(np.int64))
    rare = {}
    for balanced in (True, False):
        config = _config(epochs=30, learning_rate=1e-3, balanced=balanced)
        model = fit_attention(bags, None, classes=2, seed=0, config=config)
        rare[balanced] = attend(model, features).probabilities[:, 1].mean()
    assert rare[False] < 0.25
    assert 0.35 < rare[True] < 0.65
