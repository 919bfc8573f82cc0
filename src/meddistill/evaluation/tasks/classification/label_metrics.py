"""Metrics of several labels, each by itself, over weighted rows and for all resamples at once.

Rows whose truth of a label is unknown (-1) do not count for it. A label is undefined where its rows are all
positive or all negative, in the sample or in a resample; means run over the labels that are defined.

- `auc`: area under the ROC curve of a label, ties ½.
- `average_precision`: Σ over thresholds of (recall gained) x precision, rows of equal score being one
  threshold; no interpolation (as scikit-learn's `average_precision_score`).
- macro AUC and mAP: unweighted means of the two.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints, Places
from meddistill.evaluation.base.bootstrap import Replicates, Weights
from meddistill.evaluation.tasks.classification.metrics import (
    area_under_roc,
    row_weights,
    rows_first,
    running_sums,
)

UNKNOWN: Final = -1
AUC: Final = "auc"
PRECISION: Final = "average_precision"

_Measure = Callable[[Flags, Floats, Weights, Places], Replicates | tuple[Replicates, Replicates]]


def label_metrics(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> Mapping[str, Floats]:
    """`auc` and `average_precision` of every label for all resamples, [L, R] each; NaN where undefined.

    `truth` [n, L] in {1, 0, -1}, `scores` [n, L]; `weights` and `groups` as in `class_metrics`.
    """
    metrics = _by_label(_one_label, truth, scores, weights=weights, groups=groups)
    return {AUC: metrics[:, 0], PRECISION: metrics[:, 1]}


def label_auc(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> Floats:
    """`auc` alone of every label for all resamples, [L, R]; as in `label_metrics`."""

    def area(positive: Flags, own: Floats, by_row: Weights, rows: Places) -> Replicates:
        return area_under_roc(positive, own, by_row[rows])

    return _by_label(area, truth, scores, weights=weights, groups=groups)


def _by_label(measure: _Measure, truth: Ints, scores: Floats, *, weights: Weights, groups: Ints) -> Floats:
    """What `measure` finds of every label on its known rows, [L, ..., R]; some resamples at a time."""
    known = [np.flatnonzero(column != UNKNOWN) for column in truth.T]
    parts = []
    for part in row_weights(weights, groups):
        by_row = rows_first(part)
        measured = [
            measure(truth[rows, column] == 1, scores[rows, column], by_row, rows)
            for column, rows in enumerate(known)
        ]
        parts.append(np.array(measured))
    return np.concatenate(parts, axis=-1)


def _one_label(
    positive: Flags, scores: Floats, weights: Weights, rows: Places
) -> tuple[Replicates, Replicates]:
    """Both metrics of one label under `weights` [m, R], of which its n known `rows` count.

    Rows stand from the highest score down. Of every positive row `first` and `last` are how many rows stand
    above it, and above or level with it: AUC is one less the share of negatives there (half of the level
    ones), precision the share of positives among the latter.
    """
    order = np.argsort(-scores, kind="stable")
    falling, own = -scores[order], np.flatnonzero(positive[order])
    total, hits = running_sums(weights, rows[order]), running_sums(weights, rows[order[own]])
    mine = weights[rows[order[own]]]
    first, last = (np.searchsorted(falling, falling[own], side=side) for side in ("left", "right"))
    above, upto = (np.searchsorted(own, ends, side="left") for ends in (first, last))
    all_upto, hits_upto = total[last], hits[upto]
    positives, everything = hits[-1].astype(np.float64), total[-1].astype(np.float64)
    negatives = everything - positives
    beaten = total[first] - hits[above] + all_upto - hits_upto
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.einsum("nr,nr->r", mine, beaten, dtype=np.float64)
        area = 1 - lost / 2 / (positives * negatives)
        precision = np.nan_to_num(hits_upto / all_upto)
        mean = np.einsum("nr,nr->r", mine, precision, dtype=np.float64) / positives
    defined = (positives > 0) & (negatives > 0)
    return np.where(defined, area, np.nan), np.where(defined, mean, np.nan)
