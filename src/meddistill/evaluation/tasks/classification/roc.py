"""ROC curves as a few points that can be drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats

MOST_POINTS: Final = 101
_DIGITS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Roc:
    """Sensitivity over 1 - specificity, from (0, 0) to (1, 1); `auc` is of the curve before thinning."""

    fpr: Floats
    tpr: Floats
    auc: float


def roc(positive: Flags, scores: Floats) -> Roc | None:
    """The whole curve of `scores` [n]; rows of equal score are one step. None where one class is absent."""
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(positive[order])[ends]
    false = ends + 1 - hits
    tpr = np.append(0.0, hits / hits[-1])
    fpr = np.append(0.0, false / false[-1])
    return Roc(fpr=fpr, tpr=tpr, auc=float((np.diff(fpr) * (tpr[1:] + tpr[:-1])).sum() / 2))


def mean_roc(curves: Sequence[Roc]) -> Roc:
    """Mean sensitivity of curves at 101 equal steps of 1 - specificity; `auc` is the mean of theirs."""
    grid = np.linspace(0, 1, MOST_POINTS)
    # A vertical step has two sensitivities at one place; the upper one is the curve's.
    heights = [_upper(each, grid) for each in curves]
    tpr = np.mean(heights, axis=0)
    tpr[0] = 0.0
    return Roc(fpr=grid, tpr=tpr, auc=float(np.mean([each.auc for each in curves])))


def thinned(curve: Roc) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """At most 101 of the curve's own points, evenly along its length, both ends among them; rounded."""
    fpr, tpr = curve.fpr, curve.tpr
    if len(fpr) > MOST_POINTS:
        length = fpr + tpr
        wanted = np.linspace(0, 2, MOST_POINTS)
        chosen = np.unique(np.searchsorted(length, wanted - 1e-12).clip(0, len(fpr) - 1))
        fpr, tpr = fpr[chosen], tpr[chosen]
    return tuple(np.round(fpr, _DIGITS).tolist()), tuple(np.round(tpr, _DIGITS).tolist())


def _upper(curve: Roc, grid: Floats) -> Floats:
    last = np.searchsorted(curve.fpr, grid, side="right") - 1
    following = np.minimum(last + 1, len(curve.fpr) - 1)
    width = curve.fpr[following] - curve.fpr[last]
    share = np.divide(grid - curve.fpr[last], width, out=np.zeros_like(grid), where=width > 0)
    heights: Floats = curve.tpr[last] + share * (curve.tpr[following] - curve.tpr[last])
    return heights
