"""Classification metrics over weighted rows, for all resamples at once.

A class counts as present when a row of it has weight. Means over classes run over the classes present (as
scikit-learn's balanced accuracy does), in the sample as in every resample. A row whose highest score is
shared by m classes counts 1/m for each, so that a collapsed model scores 1/C in any order.

- `balanced_accuracy`: mean over classes of recall.
- `accuracy`: weighted share of rows whose highest score is the true class's.
- `auc`: mean over classes of the one-versus-rest area under the ROC curve, ties ½; undefined for one class.
- `f1`: mean of 2 TP / (rows of the class + rows predicted as it) over the classes that are present or
  predicted (as scikit-learn's macro F1): a class that is only predicted counts with zero.
- `top_5_accuracy`, with six classes or more: weighted share of rows whose true class is among the five
  highest scores; classes that tie for the last places share them equally.
- `quadratic_kappa`, of ordinal classes: 1 - Σ (i - j)² O_ij / Σ (i - j)² E_ij, with O_ij the rows of class i
  that were given class j and E_ij = O_i. O_.j / O_.. what the margins alone would give (Cohen, "Weighted
  kappa", 1968); undefined where rows and decisions are all of one class.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints, Places
from meddistill.evaluation.base.bootstrap import Replicates, Weights

MAIN: Final = "balanced_accuracy"
TOP: Final = 5
_MOST_CELLS = 1_000_000  # of a chunk of resamples x rows; 8 MB in float64


def predicted_share(scores: Floats) -> Floats:
    """Which class each row is given, [n, C]: one for the highest score, divided among equals."""
    highest = (scores == scores.max(axis=1, keepdims=True)).astype(np.float64)
    share: Floats = highest / highest.sum(axis=1, keepdims=True)
    return share


def class_metrics(
    truth: Ints, scores: Floats, weights: Weights, groups: Ints, *, ordinal: bool = False
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
    ordinal
        Whether the classes stand in an order that means something.

    Returns
    -------
    Name → [R]; NaN where a metric is not defined.
    """
    chunks = []
    for part in row_weights(weights, groups):
        metrics = _from_counts(truth, scores, part)
        metrics["auc"] = _auc(truth, scores, part)
        if scores.shape[1] > TOP:
            metrics[f"top_{TOP}_accuracy"] = _share(part, in_top(truth, scores, TOP))
        if ordinal:
            metrics["quadratic_kappa"] = quadratic_kappa(truth, scores, part)
        chunks.append(metrics)
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def main_metric(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> Replicates:
    """Balanced accuracy alone, [R]; as in `class_metrics`."""
    parts = [_from_counts(truth, scores, part)[MAIN] for part in row_weights(weights, groups)]
    return np.concatenate(parts)


def auc_metric(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> Replicates:
    """Macro AUC alone, [R]; as in `class_metrics`."""
    return np.concatenate([_auc(truth, scores, part) for part in row_weights(weights, groups)])


def row_weights(weights: Weights, groups: Ints) -> Iterator[Floats]:
    """`weights` of patients as weights of rows, float64, some resamples at a time."""
    step = max(1, _MOST_CELLS // max(1, len(groups)))
    for start in range(0, len(weights), step):
        yield weights[start : start + step, groups].astype(np.float64)


def weighted_sums(columns: Floats, weights: Weights, groups: Ints) -> Floats:
    """Sums of `columns` [n, k] over rows for all resamples, [R, k]; `weights` and `groups` as above."""
    of_patient = np.zeros((weights.shape[1], columns.shape[1]))
    np.add.at(of_patient, groups, columns)
    parts = [part @ of_patient for part in row_weights(weights, np.arange(weights.shape[1]))]
    return np.concatenate(parts)


def _from_counts(truth: Ints, scores: Floats, weights: Floats) -> dict[str, Replicates]:
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
    return {
        MAIN: _mean(recall, present),
        "accuracy": accuracy,
        "f1": _mean(f1, present | (predicted > 0)),
    }


def in_top(truth: Ints, scores: Floats, k: int) -> Floats:
    """How far the true class of each row is among the `k` highest scores, [n] from 0 to 1."""
    own = scores[np.arange(len(truth)), truth][:, None]
    above, level = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    places: Floats = np.clip((k - above) / level, 0.0, 1.0)
    return places


def quadratic_kappa(truth: Ints, scores: Floats, weights: Floats) -> Replicates:
    """Cohen's kappa with squared distances under every row of `weights` [R, n], see above; [R]."""
    classes = scores.shape[1]
    given = predicted_share(scores)
    cells = (np.eye(classes)[truth][:, :, None] * given[:, None, :]).reshape(len(truth), -1)
    counts = (weights @ cells).reshape(-1, classes, classes)
    distance = np.square(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64)
    rows, columns = counts.sum(axis=2), counts.sum(axis=1)
    observed = (counts * distance).sum(axis=(1, 2)) * rows.sum(axis=1)
    expected = ((rows @ distance) * columns).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: Replicates = np.where(expected > 0, 1 - observed / expected, np.nan)
    return kappa


def _share(weights: Floats, values: Floats) -> Replicates:
    with np.errstate(invalid="ignore"):
        share: Replicates = (weights @ values) / weights.sum(axis=1)
    return share


def _mean(values: Floats, present: Flags) -> Replicates:
    with np.errstate(invalid="ignore"):
        mean: Replicates = np.where(present, values, 0).sum(axis=1) / present.sum(axis=1)
    return mean


def _auc(truth: Ints, scores: Floats, weights: Floats) -> Replicates:
    total = np.zeros(len(weights))
    defined = np.zeros(len(weights))
    by_row = rows_first(weights)
    for each in np.unique(truth):
        area = area_under_roc(truth == each, scores[:, each], by_row)
        valid = np.isfinite(area)
        total[valid] += area[valid]
        defined += valid
    with np.errstate(invalid="ignore"):
        mean: Replicates = total / defined
    return mean


def rows_first(weights: Floats) -> Weights:
    """`weights` [R, n] as [n, R]: sums along rows then run over whole resamples at once.

    Whole numbers, so that sums below 2^24 are exact in float32, in half the memory.
    """
    return np.ascontiguousarray(weights.T, dtype=np.float32)


def running_sums(weights: Weights, order: Places) -> Weights:
    """Sums of the first 0, 1, ... rows of `weights` [n, R] in an order, [len(order) + 1, R]."""
    sums = np.zeros((len(order) + 1, weights.shape[1]), dtype=np.float32)
    # `cumsum` adds one number at a time; adding whole rows is ten times as fast.
    for place, row in enumerate(order):
        np.add(sums[place], weights[row], out=sums[place + 1])
    return sums


def area_under_roc(positive: Flags, scores: Floats, weights: Weights) -> Replicates:
    """Share of pairs of a positive and a negative row, by weight, that stand in the right order; ties ½.

    `positive` and `scores` [n], `weights` [n, R] whole numbers (`rows_first`); [R], NaN where a resample
    lacks one of both. The weighted count of Mann and Whitney: Σ over positives of w x (weight of the
    negatives below + ½ of those level).
    """
    negative = np.flatnonzero(~positive)
    order = negative[np.argsort(scores[negative], kind="stable")]
    running = running_sums(weights, order)
    own = np.flatnonzero(positive)
    lower, upper = (np.searchsorted(scores[order], scores[own], side=side) for side in ("left", "right"))
    mine = weights[own]
    won = np.einsum("nr,nr->r", mine, running[lower], dtype=np.float64)
    won += np.einsum("nr,nr->r", mine, running[upper], dtype=np.float64)
    positives, negatives = mine.sum(axis=0, dtype=np.float64), running[-1].astype(np.float64)
    with np.errstate(invalid="ignore"):
        area: Replicates = won / 2 / (positives * negatives)
    return area
