"""Gated attention against torchmil, and what it learns."""

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from meddistill.evaluation.tasks.bags.attention import attend, fit_attention
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.gated import GatedAttention
from meddistill.evaluation.tasks.bags.labelled import LabelledBags


def _config(**more: object) -> BagClassificationConfig:
    content = {"name": "bags", "kind": "bag_classification", "train": "train", "test": "test", **more}
    return BagClassificationConfig.model_validate(content)


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
    random = np.random.default_rng(0)
    model = GatedAttention(6, hidden=5, classes=3, random=random).double()
    for drawn in (model.score.weight, *model.classifier.parameters()):  # they begin at 0
        drawn.data.copy_(torch.from_numpy(random.normal(size=tuple(drawn.shape))))
    pool = nn.AttentionPool(in_dim=6, att_dim=5, gated=True).double()
    pool.load_state_dict(
        {
            "fc1.module.weight": model.content.weight,
            "fc1.module.bias": model.content.bias,
            "fc_gated.module.weight": model.gate.weight,
            "fc_gated.module.bias": model.gate.bias,
            "fc2.weight": model.score.weight,
        }
    )
    bag = torch.from_numpy(random.normal(size=(7, 6)))
    pooled, scores = pool(bag[None], return_att=True)
    logits, attention = model(bag)
    torch.testing.assert_close(attention, torch.softmax(scores[0], dim=0), atol=1e-12, rtol=0)
    torch.testing.assert_close(logits, model.classifier(pooled[0]), atol=1e-12, rtol=0)


def test_it_finds_the_instance_that_decides() -> None:
    config = _config(epochs=15, learning_rate=1e-2)
    model = fit_attention(_bags(100), None, classes=2, seed=0, config=config)
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
        parameters_to_vector(
            fit_attention(bags, None, classes=2, seed=seed, config=_config(max_instances=3)).parameters()
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)


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
        config = _config(epochs=10, learning_rate=3e-3, balanced=balanced)
        model = fit_attention(bags, None, classes=2, seed=0, config=config)
        rare[balanced] = attend(model, features).probabilities[:, 1].mean()
    assert rare[False] < 0.25
    assert 0.35 < rare[True] < 0.65
