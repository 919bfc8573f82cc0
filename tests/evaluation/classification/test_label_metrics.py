"""Metrics of several labels: against scikit-learn with weights, with unknown cells, on degenerate labels."""

import numpy as np
import pytest
from sklearn import metrics

from meddistill.evaluation.base.bootstrap import mean_of_defined
from meddistill.evaluation.tasks.classification.label_metrics import label_metrics


def _rows(n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.choice([-1, 0, 1], size=n, p=[0.2, 0.5, 0.3])
    scores = np.round(random.normal(size=n) + (truth == 1), 1)
    weights = random.poisson(1, size=(5, n // 3)).astype(np.float32)
    return truth, scores, weights


def _one(truth: np.ndarray, scores: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = label_metrics(truth[:, None], scores[:, None], *rest)
    return found["auc"][0], found["average_precision"][0]


def test_equal_to_scikit_learn_on_the_known_rows_under_every_weighting() -> None:
    """Three rows a patient; many scores are equal."""
    truth, scores, weights = _rows()
    groups = np.arange(len(truth)) // 3
    areas, precisions = _one(truth, scores, weights, groups)
    known = truth >= 0
    for row, weight in enumerate(weights[:, groups]):
        given = {"sample_weight": weight[known]}
        area = metrics.roc_auc_score(truth[known], scores[known], **given)
        assert areas[row] == pytest.approx(area, abs=1e-9)
        precision = metrics.average_precision_score(truth[known], scores[known], **given)
        assert precisions[row] == pytest.approx(precision, abs=1e-6)


def test_scores_that_are_all_equal_have_chance() -> None:
    truth = np.array([1, 0, 0, 0])
    ones, groups = np.ones((1, 4), np.float32), np.arange(4)
    area, precision = _one(truth, np.zeros(4), ones, groups)
    assert (area[0], precision[0]) == (0.5, 0.25)


@pytest.mark.parametrize("truth", [[1, 1, 1], [0, 0, 0], [-1, -1, -1], [1, -1, 1]])
def test_a_label_without_both_values_is_undefined(truth: list[int]) -> None:
    for found in _one(np.array(truth), np.arange(3.0), np.ones((2, 3), np.float32), np.arange(3)):
        assert found.shape == (2,)
        assert np.isnan(found).all()


def test_a_resample_without_both_values_is_undefined() -> None:
    weights = np.array([[1, 1, 1], [1, 0, 2], [0, 3, 0], [0, 0, 0]], dtype=np.float32)
    for found in _one(np.array([1, 0, 1]), np.array([0.9, 0.5, 0.1]), weights, np.arange(3)):
        assert np.isfinite(found).tolist() == [True, False, False, False]


def test_the_mean_runs_over_defined_labels() -> None:
    values = np.array([[0.5, np.nan, np.nan], [0.7, 0.9, np.nan]])
    np.testing.assert_allclose(mean_of_defined(values), [0.6, 0.9, np.nan])


def test_labels_and_chunks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    truth, scores = random.integers(-1, 2, (40, 3)), random.normal(size=(40, 3))
    weights = random.poisson(1, size=(9, 40)).astype(np.float32)
    whole = label_metrics(truth, scores, weights, np.arange(40))
    monkeypatch.setattr("meddistill.evaluation.tasks.classification.metrics._MOST_CELLS", 80)
    parts = label_metrics(truth, scores, weights, np.arange(40))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name])
        for column in range(3):
            alone = label_metrics(truth[:, [column]], scores[:, [column]], weights, np.arange(40))[name]
            np.testing.assert_array_equal(values[column], alone[0])
