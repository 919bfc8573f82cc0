"""Accuracies over resamples: against scikit-learn and torchmetrics, and by hand."""

import time

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torchmetrics.functional.classification import multiclass_accuracy

from meddistill.evaluation.base.bootstrap import Resampler, mean_of_defined, weighted_mean
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.tasks.vqa.metrics import rightness


def test_every_resample_equals_scikit_learns() -> None:
    random = np.random.default_rng(0)
    scores, truth = random.random((300, 7)), random.integers(0, 7, 300)
    groups = np.unique(random.integers(0, 40, 300), return_inverse=True)[1]
    weights = Resampler(BootstrapConfig(resamples=50)).weights(np.unique(groups))
    ours = weighted_mean(rightness(scores, truth), weights, groups)
    chosen = scores.argmax(axis=1)
    oracle = [accuracy_score(truth, chosen, sample_weight=each[groups]) for each in weights]
    np.testing.assert_allclose(ours, oracle)
    torch_oracle = multiclass_accuracy(
        torch.from_numpy(scores), torch.from_numpy(truth), num_classes=7, average="micro"
    )
    assert ours[0] == pytest.approx(float(torch_oracle))


def test_ties_share_what_is_right() -> None:
    scores = np.array([[0.5, 0.5, 0.0], [0.4, 0.4, 0.4], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(rightness(scores, np.array([1, 2, 1, 0])), [1 / 2, 1 / 3, 0, 1 / 3])


def test_an_answer_outside_the_vocabulary_is_wrong() -> None:
    np.testing.assert_array_equal(rightness(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([-1, -1])), [0, 0])


def test_no_question_with_weight_is_undefined() -> None:
    weights = np.array([[1, 1], [0, 2], [0, 0]], dtype=np.float32)
    found = weighted_mean(np.array([1.0, 1.0, 0.0]), weights, np.array([0, 0, 1]))
    np.testing.assert_allclose(found, [2 / 3, 0, np.nan])
    nothing = weighted_mean(np.zeros(0), np.zeros((3, 0), dtype=np.float32), np.zeros(0, dtype=np.int64))
    assert np.isnan(nothing).all()


def test_the_mean_runs_over_what_is_present() -> None:
    found = mean_of_defined([np.array([1.0, np.nan, np.nan]), np.array([0.5, 0.25, np.nan])])
    np.testing.assert_allclose(found, [0.75, 0.25, np.nan])


def test_a_thousand_resamples_of_five_thousand_rows_are_quick() -> None:
    random = np.random.default_rng(0)
    right, groups = random.integers(0, 2, 5000).astype(float), np.arange(5000) % 2000
    weights = Resampler(BootstrapConfig(resamples=1000)).weights(np.arange(2000))
    start = time.process_time()
    for _ in range(10):
        weighted_mean(right, weights, groups)
    assert time.process_time() - start < 5
