"""Quadratic kappa against scikit-learn."""

import time

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from meddistill.evaluation.bags.metrics import quadratic_kappa

RANDOM = np.random.default_rng(0)


def _kappa(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    rows = np.arange(len(truth))
    weights = np.ones((1, len(truth)), dtype=np.float32) if weights is None else weights
    return quadratic_kappa(np.asarray(truth, dtype=np.int64), np.asarray(scores, dtype=float), weights, rows)


def test_it_is_that_of_scikit_learn_in_every_resample() -> None:
    truth, scores = RANDOM.integers(0, 4, 50), RANDOM.normal(size=(50, 4))
    scores[np.arange(50), truth] += 1.0
    weights = RANDOM.poisson(1.0, (8, 50)).astype(np.float32)
    given = scores.argmax(axis=1)
    wanted = [
        cohen_kappa_score(truth, given, weights="quadratic", labels=range(4), sample_weight=each)
        for each in weights
    ]
    np.testing.assert_allclose(_kappa(truth, scores, weights), wanted, atol=1e-9)


def test_by_hand() -> None:
    """Truth 0 0 1 2, given 0 1 1 0: squared distances 0 + 1 + 0 + 4."""
    scores = np.eye(3)[[0, 1, 1, 0]]
    expected = sum(t * g * (i - j) ** 2 / 4 for i, t in enumerate((2, 1, 1)) for j, g in enumerate((2, 2, 0)))
    assert _kappa(np.array([0, 0, 1, 2]), scores)[0] == pytest.approx(1 - 5 / expected)


def test_the_ends_of_its_range() -> None:
    truth = np.array([0, 0, 1, 1])
    assert _kappa(truth, np.eye(2)[truth])[0] == pytest.approx(1)
    assert _kappa(truth, np.eye(2)[1 - truth])[0] == pytest.approx(-1)
    assert _kappa(truth, np.zeros((4, 2)))[0] == pytest.approx(0)  # ties everywhere: chance, in any order
    assert np.isnan(_kappa(np.zeros(4), np.eye(3)[[0, 0, 0, 0]])[0])  # one grade alone
    assert np.isnan(_kappa(truth, np.eye(2)[truth], np.zeros((1, 4), dtype=np.float32))[0])  # nobody drawn


def test_a_thousand_resamples_of_five_thousand_bags_take_seconds() -> None:
    truth, scores = RANDOM.integers(0, 6, 5000), RANDOM.normal(size=(5000, 6))
    weights = RANDOM.poisson(1.0, (1001, 5000)).astype(np.float32)
    start = time.process_time()
    _kappa(truth, scores, weights)
    assert time.process_time() - start < 5
