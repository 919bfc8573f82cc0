"""ROC curves: against scikit-learn, thinned, averaged."""

import numpy as np
import pytest
from sklearn import metrics

from meddistill.evaluation.tasks.classification.roc import MOST_POINTS, mean_roc, roc, thinned


def _rows(n: int, digits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    return positive, np.round(random.normal(size=n) + positive, digits)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_equal_to_scikit_learn(digits: int) -> None:
    positive, scores = _rows(200, digits)
    curve = roc(positive, scores)
    assert curve is not None
    fpr, tpr, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.fpr, fpr)
    np.testing.assert_allclose(curve.tpr, tpr)
    assert curve.auc == pytest.approx(metrics.roc_auc_score(positive, scores))


@pytest.mark.parametrize("n", [2, 150, 5000])
def test_thinned_curves_are_small_and_keep_their_area(n: int) -> None:
    positive, scores = _rows(n, 8, seed=3)
    positive[:2] = [True, False]
    curve = roc(positive, scores)
    assert curve is not None
    fpr, tpr = thinned(curve)
    assert len(fpr) == len(tpr) <= MOST_POINTS
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert all(np.diff(fpr) >= 0)
    assert all(np.diff(tpr) >= 0)
    assert metrics.auc(fpr, tpr) == pytest.approx(curve.auc, abs=0.01)


def test_no_curve_of_one_class() -> None:
    assert roc(np.array([True, True]), np.array([0.1, 0.2])) is None
    assert roc(np.array([False]), np.array([0.1])) is None


def test_the_mean_of_curves() -> None:
    """By hand: a perfect curve and the diagonal give (1 + x) / 2; the areas average."""
    perfect = roc(np.array([True, False]), np.array([0.9, 0.1]))
    guessing = roc(np.array([True, False]), np.array([0.5, 0.5]))
    assert perfect is not None
    assert guessing is not None
    mean = mean_roc([perfect, guessing])
    assert mean.auc == 0.75
    np.testing.assert_allclose(mean.tpr[1:], (1 + mean.fpr[1:]) / 2)
    assert (mean.tpr[0], mean.tpr[-1]) == (0, 1)
