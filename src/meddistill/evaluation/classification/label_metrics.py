"""Metrics of several labels, each by itself, over weighted rows and for all resamples at once.

Rows whose truth of a label is unknown (-1) do not count for it. A label is undefined where its rows are all
positive or all negative, in the sample or in a resample; means run over the labels that are defined.

- `auc`: area under the ROC curve of a label, ties ½.
- `average_precision`: Σ over thresholds of (recall gained) x precision, rows of equal score being one
  threshold; no interpolation (as scikit-learn's `average_precision_score`).
- macro AUC and mAP: unweighted means of the two.
"""

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.classification.metrics import (
    Matrix,
    area_under_roc,
    row_weights,
    rows_first,
    running_sums,
)
from meddistill.evaluation.statistics.bootstrap import Replicates, Weights

UNKNOWN = -1


def label_auc(
    truth: NDArray[np.int64], scores: Matrix, weights: Weights, groups: NDArray[np.int64]
) -> Replicates:
    """AUC of one label, [R]: `truth` [n] in {0, 1, -1}, `scores` [n]; the rest as in `class_metrics`."""
    known = truth != UNKNOWN
    positive, own = truth[known] == 1, scores[known]
    parts = [area_under_roc(positive, own, rows_first(part)) for part in row_weights(weights, groups[known])]
    return np.concatenate(parts)


def label_average_precision(
    truth: NDArray[np.int64], scores: Matrix, weights: Weights, groups: NDArray[np.int64]
) -> Replicates:
    """Average precision of one label, [R]; arguments as in `label_auc`."""
    known = truth != UNKNOWN
    positive, own = truth[known] == 1, scores[known]
    parts = [
        average_precision(positive, own, rows_first(part)) for part in row_weights(weights, groups[known])
    ]
    return np.concatenate(parts)


def average_precision(positive: NDArray[np.bool_], scores: Matrix, weights: Weights) -> Replicates:
    """Average precision of rows [n] under `weights` [n, R]; [R], NaN where one class has no weight."""
    order = np.argsort(-scores, kind="stable")
    ordered, truth = -scores[order], positive[order]
    own = np.flatnonzero(truth)
    total, hits = running_sums(weights, order), running_sums(weights, order[own])
    mine = weights[order[own]]
    ends = np.searchsorted(ordered, ordered[own], side="right")
    # The positives among the first `ends` rows: `hits` counts positives only.
    found = np.searchsorted(own, ends, side="left")
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.nan_to_num(hits[found] / total[ends])
        mean = np.einsum("nr,nr->r", mine, precision, dtype=np.float64) / hits[-1]
    defined = (hits[-1] > 0) & (hits[-1] < total[-1])
    values: Replicates = np.where(defined, mean, np.nan)
    return values


def mean_over_labels(values: Matrix) -> Replicates:
    """Mean of [L, R] over the labels that are defined, [R]; NaN where none is."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Replicates = np.where(defined, values, 0.0).sum(axis=0) / defined.sum(axis=0)
    return mean
