"""Intervals: against scipy, and on inputs where there is nothing to resample."""

import numpy as np
import pytest
from scipy import stats

from meddistill.evaluation.base.bootstrap import Resampler, estimate, mean_replicates
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.tasks.classification.metrics import class_metrics

CONFIG = BootstrapConfig(resamples=2000, seed=3)


def test_weights_depend_on_seed_and_patient_alone() -> None:
    together = Resampler(CONFIG).weights(np.array([0, 5, 9]))
    alone = Resampler(CONFIG).weights(np.array([9]))
    other = Resampler(BootstrapConfig(resamples=2000, seed=4)).weights(np.array([9]))
    np.testing.assert_array_equal(together[:, 2], alone[:, 0])
    assert (other[1:] != alone[1:]).any()
    assert (together[0] == 1).all()
    assert not np.array_equal(together[:, 0], together[:, 1])
    assert together[1:].mean() == pytest.approx(1, abs=0.05)
    assert together[1:].var() == pytest.approx(1, abs=0.1)


def test_interval_of_an_accuracy_agrees_with_scipy() -> None:
    right = np.random.default_rng(0).random(300) < 0.7
    truth = np.zeros(300, dtype=np.int64)
    scores = np.stack([right, ~right], axis=1).astype(np.float32)
    patients = np.arange(300)
    replicates = class_metrics(truth, scores, Resampler(CONFIG).weights(patients), patients)["accuracy"]
    found = estimate(replicates, patients=300, level=0.95)
    oracle = stats.bootstrap(
        (right.astype(float),), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found.value == pytest.approx(right.mean())
    assert found.low == pytest.approx(oracle.low, abs=0.01)
    assert found.high == pytest.approx(oracle.high, abs=0.01)


def test_rows_of_a_patient_are_drawn_together() -> None:
    """Ten copies of every patient's row are no ten times more evidence."""
    right = np.random.default_rng(1).random(60) < 0.5
    truth = np.zeros(60, dtype=np.int64)
    scores = np.stack([right, ~right], axis=1).astype(np.float32)
    weights = Resampler(CONFIG).weights(np.arange(60))
    once = class_metrics(truth, scores, weights, np.arange(60))["accuracy"]
    copies = np.repeat(np.arange(60), 10)
    tenfold = class_metrics(truth[copies], scores[copies], weights, copies)["accuracy"]
    np.testing.assert_allclose(once, tenfold)


@pytest.mark.parametrize(
    ("replicates", "patients", "value", "has_interval", "failed"),
    [
        ([0.5, 0.4, 0.6], 1, 0.5, False, 0),
        ([np.nan, 0.4, 0.6], 9, None, False, 0),
        ([0.5, np.nan, np.nan, 0.4], 9, 0.5, False, 2),
        ([0.5, np.nan, 0.4, 0.6], 9, 0.5, True, 1),
    ],
)
def test_when_there_is_no_interval(
    replicates: list[float], patients: int, value: float | None, has_interval: bool, failed: int
) -> None:
    found = estimate(np.array(replicates), patients=patients, level=0.9)
    assert found.value == value
    assert (found.low is not None) is has_interval
    assert (found.high is not None) is has_interval
    assert found.failed == failed


def test_tasks_on_the_same_patients_do_not_narrow_their_mean() -> None:
    right = np.random.default_rng(2).random(100) < 0.6
    scores = np.stack([right, ~right], axis=1).astype(np.float32)
    truth = np.zeros(100, dtype=np.int64)
    resampler = Resampler(CONFIG)

    def accuracy(patients: np.ndarray) -> np.ndarray:
        return class_metrics(truth, scores, resampler.weights(patients), np.arange(100))["accuracy"]

    one = accuracy(np.arange(100))
    same = mean_replicates([one, accuracy(np.arange(100))])
    others = mean_replicates([one, accuracy(np.arange(100, 200))])
    assert same[1:].std() == pytest.approx(one[1:].std())
    assert others[1:].std() == pytest.approx(one[1:].std() / np.sqrt(2), rel=0.1)
