"""Calibration: against torchmetrics and scikit-learn, by hand, and on degenerate rows."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torchmetrics.classification import MulticlassCalibrationError

from meddistill.evaluation.tasks.classification.calibration import (
    BINS,
    LEAST_TEMPERATURE,
    calibration_curve,
    calibration_metrics,
    equal_mass,
    fit_temperature,
    tempered,
)
from meddistill.evaluation.tasks.classification.metrics import class_metrics


def _drawn(classes: int, n: int = 500, *, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from softmax(z), and probabilities softmax(sharpness x z): the best T is `sharpness`."""
    random = np.random.default_rng(classes)
    logits = random.normal(size=(n, classes)) * 1.5
    right = tempered(np.exp(logits), 1.0)
    truth = np.array([random.choice(classes, p=row) for row in right])
    return truth, tempered(np.exp(logits), 1 / sharpness)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_equal_to_the_libraries_under_every_weighting(classes: int) -> None:
    truth, scores = _drawn(classes)
    weights = np.random.default_rng(1).poisson(1, size=(4, len(truth))).astype(np.float32)
    found = calibration_metrics(truth, scores, weights, np.arange(len(truth)))
    oracle = MulticlassCalibrationError(classes, n_bins=BINS, norm="l1")
    one_hot = np.eye(classes)[truth]
    for row, weight in enumerate(weights):
        copies = np.repeat(np.arange(len(truth)), weight.astype(int))
        ece = oracle(torch.from_numpy(scores[copies]), torch.from_numpy(truth[copies]))
        assert found["ece"][row] == pytest.approx(float(ece), abs=1e-6)
        assert found["nll"][row] == pytest.approx(metrics.log_loss(truth, scores, sample_weight=weight))
        brier = sum(
            metrics.brier_score_loss(one_hot[:, c], scores[:, c], sample_weight=weight)
            for c in range(classes)
        )
        assert found["brier"][row] == pytest.approx(brier)


def test_adaptive_bins_hold_equal_shares_and_keep_ties_together() -> None:
    random = np.random.default_rng(0)
    assert np.bincount(equal_mass(random.random(150))).tolist() == [10] * BINS
    assert len(set(equal_mass(np.full(40, 0.7)))) == 1
    tied = equal_mass(np.repeat([0.2, 0.9], 30))
    assert len(set(tied[:30])) == len(set(tied[30:])) == 1
    assert set(tied[:30]) != set(tied[30:])


def test_by_hand() -> None:
    """Confidences 0.9 (right), 0.9 (wrong), 0.6 (right): gaps 0.8 over two rows and 0.4 over one."""
    truth = np.array([0, 1, 1])
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    found = calibration_metrics(truth, scores, np.ones((1, 3), np.float32), np.arange(3))
    assert found["ece"][0] == pytest.approx((0.8 + 0.4) / 3)
    assert found["brier"][0] == pytest.approx(2 * (0.01 + 0.81 + 0.16) / 3)
    assert found["nll"][0] == pytest.approx(-np.log([0.9, 0.1, 0.6]).mean())
    curve = calibration_curve(truth, scores)
    np.testing.assert_allclose(curve.confidence, [0.6, 0.9])
    np.testing.assert_allclose(curve.accuracy, [1.0, 0.5])
    assert curve.counts.tolist() == [1, 2]


def test_a_collapsed_model_is_calibrated_when_the_classes_are_even() -> None:
    scores = np.full((6, 3), 1 / 3)
    found = calibration_metrics(np.array([0, 1, 2] * 2), scores, np.ones((1, 6), np.float32), np.arange(6))
    assert found["ece"][0] == pytest.approx(0)
    assert found["adaptive_ece"][0] == pytest.approx(0)
    assert found["nll"][0] == pytest.approx(np.log(3))


def test_sure_errors_are_finite_and_no_rows_are_undefined() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 0.0]])
    weights = np.array([[1, 1], [0, 0]], dtype=np.float32)
    found = calibration_metrics(np.array([1, 0]), scores, weights, np.array([0, 1]))
    assert found["ece"][0] == pytest.approx(0.5)
    assert found["nll"][0] == pytest.approx(-np.log(1e-15) / 2)
    assert all(np.isnan(values[1]) for values in found.values())


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_was_overdone(sharpness: float) -> None:
    truth, scores = _drawn(4, n=4000, sharpness=sharpness)
    found = fit_temperature(truth, scores)
    assert found == pytest.approx(sharpness, rel=0.1)
    rows = np.arange(len(truth))

    def loss(temperature: float) -> float:
        return float(-np.log(tempered(scores, temperature)[rows, truth]).mean())

    assert loss(found) < min(loss(found * 1.02), loss(found / 1.02))
    logits = torch.from_numpy(np.log(scores)) / found
    np.testing.assert_allclose(tempered(scores, found), logits.softmax(dim=1).numpy(), atol=1e-12)


def test_temperature_without_an_error_or_a_doubt_stays_in_its_bounds() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert LEAST_TEMPERATURE <= fit_temperature(np.array([0, 1]), sure) <= 100
    assert LEAST_TEMPERATURE <= fit_temperature(np.array([1, 0]), sure) <= 100
    assert fit_temperature(np.array([0, 1]), np.array([[0.6, 0.4], [0.4, 0.6]])) < 0.05


def test_what_a_temperature_changes() -> None:
    """Never the chosen class; the area under the curve of two classes not, of four a little."""
    ones = np.ones((1, 1), np.float32)
    for classes in (2, 4):
        truth, scores = _drawn(classes)
        before, after = (
            class_metrics(truth, each, ones, np.zeros(len(truth), np.int64))
            for each in (scores, tempered(scores, 2.5))
        )
        for name in ("balanced_accuracy", "accuracy", "f1"):
            assert before[name][0] == after[name][0]
        assert (abs(before["auc"][0] - after["auc"][0]) < 1e-12) == (classes == 2)
