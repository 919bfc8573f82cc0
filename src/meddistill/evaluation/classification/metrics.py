"""Classification metrics over weighted rows, for all resamples at once.

A class counts as present when a row of it has weight. Means over classes run over the classes present (as
scikit-learn's balanced accuracy does), in the sample as in every resample. A row whose highest score is
shared by m classes counts 1/m for each, so that a collapsed model scores 1/C in any order.

- `balanced_accuracy`: mean over classes of recall.
- `accuracy`: weighted share of rows whose highest score is the true class's.
- `auc`: mean over classes of the one-versus-rest area under the ROC curve, ties ½; undefined for one class.
- `f1`: mean over classes of 2 TP / (rows of the class + rows predicted as it).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.statistics.bootstrap import Replicates, Weights

MAIN: Final = "balanced_accuracy"
NAMES: Final = (MAIN, "accuracy", "auc", "f1")
_MOST_CELLS = 4_000_000  # of a chunk of resamples x rows; 32 MB in float64

Matrix = NDArray[np.float64]


def predicted_share(scores: NDArray[np.float64]) -> Matrix:
    """Which class each row is given, [n, C]: one for the highest score, divided among equals."""
    highest = (scores == scores.max(axis=1, keepdims=True)).astype(np.float64)
    share: Matrix = highest / highest.sum(axis=1, keepdims=True)
    return share


def class_metrics(
    truth: NDArray[np.int64], scores: NDArray[np.float64], weights: Weights, groups: NDArray[np.int64]
) -> dict[str, Replicates]:
    """All metrics for all resamples.

    Parameters
    ----------
    truth
        Class of every row, [n], numbers below C.
    scores
        [n, C], finite; higher means more likely.
    weights
        [R, p]: weight of every patient in every resample.
    groups
        [n]: which column of `weights` a row belongs to.

    Returns
    -------
    Name → [R]; NaN where a metric is not defined.
    """
    chunks = [
        {**_from_counts(truth, scores, part), "auc": _auc(truth, scores, part)}
        for part in row_weights(weights, groups)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in NAMES}


def main_metric(
    truth: NDArray[np.int64], scores: NDArray[np.float64], weights: Weights, groups: NDArray[np.int64]
) -> Replicates:
    """Balanced accuracy alone, [R]; as in `class_metrics`."""
    parts = [_from_counts(truth, scores, part)[MAIN] for part in row_weights(weights, groups)]
    return np.concatenate(parts)


def row_weights(weights: Weights, groups: NDArray[np.int64]) -> Iterator[Matrix]:
    """`weights` of patients as weights of rows, float64, some resamples at a time."""
    step = max(1, _MOST_CELLS // max(1, len(groups)))
    for start in range(0, len(weights), step):
        yield weights[start : start + step, groups].astype(np.float64)


def _from_counts(
    truth: NDArray[np.int64], scores: NDArray[np.float64], weights: Matrix
) -> dict[str, Replicates]:
    classes = scores.shape[1]
    is_class = np.eye(classes)[truth]
    given = predicted_share(scores)
    rows = weights @ is_class
    predicted = weights @ given
    right = weights @ (is_class * given)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = right / rows
        f1 = 2 * right / (rows + predicted)
        accuracy = right.sum(axis=1) / rows.sum(axis=1)
    present = rows > 0
    return {MAIN: _mean(recall, present), "accuracy": accuracy, "f1": _mean(f1, present)}


def _mean(values: Matrix, present: NDArray[np.bool_]) -> Replicates:
    with np.errstate(invalid="ignore"):
        mean: Replicates = np.where(present, values, 0).sum(axis=1) / present.sum(axis=1)
    return mean


def _auc(truth: NDArray[np.int64], scores: NDArray[np.float64], weights: Matrix) -> Replicates:
    total = np.zeros(len(weights))
    defined = np.zeros(len(weights))
    whole = weights.astype(np.float32)  # whole numbers: sums below 2^24 are exact, in half the memory
    for each in np.unique(truth):
        area = _one_versus_rest(truth == each, scores[:, each], whole)
        valid = np.isfinite(area)
        total[valid] += area[valid]
        defined += valid
    with np.errstate(invalid="ignore"):
        mean: Replicates = total / defined
    return mean


def _one_versus_rest(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: Weights
) -> Replicates:
    """Share of pairs of a positive and a negative row, by weight, that stand in the right order; ties ½.

    The weighted rank sum of Mann and Whitney: Σ over positives of w x (weight of rows below + ½ of rows
    level) counts pairs of positives too, which are P² / 2 in all.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    running = np.zeros((len(weights), len(order) + 1), dtype=np.float32)
    np.cumsum(weights[:, order], axis=1, out=running[:, 1:])
    own = scores[positive]
    below = running[:, np.searchsorted(ordered, own, side="left")].astype(np.float64)
    upto = running[:, np.searchsorted(ordered, own, side="right")]
    mine = weights[:, positive].astype(np.float64)
    positives, everything = mine.sum(axis=1), running[:, -1].astype(np.float64)
    won = (mine * (below + upto)).sum(axis=1) / 2 - positives**2 / 2
    with np.errstate(invalid="ignore"):
        area: Replicates = won / (positives * (everything - positives))
    return area
