"""Classification metrics: against scikit-learn with weights, and on degenerate rows."""

import time

import numpy as np
import pytest
from sklearn import metrics

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.tasks.classification.calibration import calibration_metrics
from meddistill.evaluation.tasks.classification.metrics import class_metrics, main_metric

ONES = np.ones((1, 1), dtype=np.float32)


def _rows(classes: int, n: int = 400, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(classes)
    truth = random.integers(0, classes, n)
    scores = random.normal(size=(n, classes))
    scores[np.arange(n), truth] += 0.8
    if ties:
        scores = np.round(scores)
    return truth, scores.astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_equal_to_scikit_learn_under_every_weighting(classes: int) -> None:
    truth, scores = _rows(classes)
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    random = np.random.default_rng(1)
    weights = random.poisson(1, size=(5, len(truth))).astype(np.float32)
    found = class_metrics(truth, scores, weights, np.arange(len(truth)))
    predicted = scores.argmax(axis=1)
    for row, weight in enumerate(weights):
        oracle = {
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted, sample_weight=weight),
            "accuracy": metrics.accuracy_score(truth, predicted, sample_weight=weight),
            "f1": metrics.f1_score(truth, predicted, average="macro", sample_weight=weight),
            "auc": np.mean(
                [
                    metrics.roc_auc_score(truth == c, scores[:, c], sample_weight=weight)
                    for c in range(classes)
                ]
            ),
        }
        for name, value in oracle.items():
            assert found[name][row] == pytest.approx(value, abs=1e-9), name
    np.testing.assert_array_equal(
        found["balanced_accuracy"], main_metric(truth, scores, weights, np.arange(len(truth)))
    )


def test_multi_class_auc_is_scikit_learns_macro_one_versus_rest() -> None:
    truth, scores = _rows(4)
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = class_metrics(truth, scores, ONES, np.zeros(len(truth), dtype=np.int64))
    assert found["auc"][0] == pytest.approx(metrics.roc_auc_score(truth, scores, multi_class="ovr"), abs=1e-9)


def test_auc_with_ties_everywhere() -> None:
    truth, scores = _rows(3, ties=True)
    found = class_metrics(truth, scores, ONES, np.zeros(len(truth), dtype=np.int64))
    oracle = np.mean([metrics.roc_auc_score(truth == c, scores[:, c]) for c in range(3)])
    assert found["auc"][0] == pytest.approx(oracle, abs=1e-9)


@pytest.mark.parametrize("order", [[0, 0, 0, 1, 2], [2, 2, 2, 1, 0]])
def test_a_collapsed_model_has_chance_whatever_the_order_of_the_classes(order: list[int]) -> None:
    found = class_metrics(np.array(order), np.zeros((5, 3), np.float32), ONES, np.zeros(5, dtype=np.int64))
    assert found["balanced_accuracy"][0] == pytest.approx(1 / 3)
    assert found["accuracy"][0] == pytest.approx(1 / 3)
    assert found["auc"][0] == pytest.approx(0.5)


def test_a_class_that_no_row_has_does_not_count() -> None:
    """By hand: recalls 1 and 1/2; one row given to the absent class, whose F1 is zero."""
    truth = np.array([0, 0, 1, 1])
    scores = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    found = class_metrics(truth, scores, ONES, np.zeros(4, dtype=np.int64))
    assert found["balanced_accuracy"][0] == pytest.approx(0.75)
    assert found["f1"][0] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_f1_is_scikit_learns_where_classes_are_only_predicted_or_nowhere() -> None:
    """Of seven classes two have no row, and one of these is predicted; resamples lose more of them."""
    random = np.random.default_rng(3)
    truth, given = random.integers(0, 5, 30), random.integers(0, 6, 30)
    weights = random.poisson(0.3, size=(50, 30)).astype(np.float32)
    weights[0] = 1
    found = class_metrics(truth, np.eye(7)[given], weights, np.arange(30))["f1"]
    for value, weight in zip(found, weights, strict=True):
        copies = np.repeat(np.arange(30), weight.astype(int))
        oracle = metrics.f1_score(truth[copies], given[copies], average="macro")
        assert value == pytest.approx(oracle, abs=1e-12)


def test_resamples_without_a_class_or_without_rows() -> None:
    truth = np.array([0, 1])
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], dtype=np.float32)
    weights = np.array([[1, 1], [1, 0], [0, 0]], dtype=np.float32)
    found = class_metrics(truth, scores, weights, np.array([0, 1]))
    np.testing.assert_array_equal(found["balanced_accuracy"], [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(found["accuracy"], [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(found["auc"], [1.0, np.nan, np.nan])


def test_chunks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, scores = _rows(3, n=50)
    weights = Resampler(BootstrapConfig(resamples=20)).weights(np.arange(50))
    whole = class_metrics(truth, scores, weights, np.arange(50))
    monkeypatch.setattr("meddistill.evaluation.tasks.classification.metrics._MOST_CELLS", 150)
    parts = class_metrics(truth, scores, weights, np.arange(50))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])


def test_a_thousand_resamples_of_five_thousand_rows_take_seconds() -> None:
    """Of the processor, so that a busy machine changes little; calibration and the area are in it."""
    truth, scores = _rows(10, n=5000)
    scores = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    start = time.process_time()
    weights = Resampler(BootstrapConfig()).weights(np.arange(5000))
    class_metrics(truth, scores, weights, np.arange(5000))
    calibration_metrics(truth, scores, weights, np.arange(5000))
    assert time.process_time() - start < 5


@pytest.mark.parametrize("classes", [2, 4, 6])
def test_quadratic_kappa_equals_scikit_learns(classes: int) -> None:
    truth, scores = _rows(classes)
    weights = np.random.default_rng(2).poisson(1, size=(4, len(truth))).astype(np.float32)
    found = class_metrics(truth, scores, weights, np.arange(len(truth)), ordinal=True)["quadratic_kappa"]
    for row, weight in enumerate(weights):
        given = {"weights": "quadratic", "sample_weight": weight}
        oracle = metrics.cohen_kappa_score(truth, scores.argmax(axis=1), **given)
        assert found[row] == pytest.approx(oracle, abs=1e-9)


def test_kappa_of_one_grade_is_undefined_and_of_chance_is_zero() -> None:
    one = class_metrics(np.zeros(4, np.int64), np.eye(3)[[0] * 4], ONES, np.zeros(4, np.int64), ordinal=True)
    assert np.isnan(one["quadratic_kappa"][0])
    even = np.array([0, 1, 2])
    flat = class_metrics(even, np.zeros((3, 3)), ONES, np.zeros(3, np.int64), ordinal=True)
    assert flat["quadratic_kappa"][0] == pytest.approx(0)


def test_top_5_accuracy_equals_scikit_learns_and_shares_ties() -> None:
    truth, scores = _rows(9)
    weights = np.random.default_rng(3).poisson(1, size=(3, len(truth))).astype(np.float32)
    found = class_metrics(truth, scores, weights, np.arange(len(truth)))["top_5_accuracy"]
    for row, weight in enumerate(weights):
        oracle = metrics.top_k_accuracy_score(truth, scores, k=5, sample_weight=weight)
        assert found[row] == pytest.approx(oracle)
    flat = class_metrics(truth, np.zeros_like(scores), weights, np.arange(len(truth)))["top_5_accuracy"]
    np.testing.assert_allclose(flat, 5 / 9)
    five = class_metrics(*_rows(5), weights, np.arange(len(truth)))
    assert "top_5_accuracy" not in five
