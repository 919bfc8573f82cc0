"""Operating points: from which score on a row is called positive, and what that means for patients.

A threshold is chosen on some rows and held there; the intervals of what it leads to on the tested rows are
therefore those of a rule that is fixed before the test, as it would be used. A row is called positive when
its score reaches the threshold.

- `sensitivity` TP / (TP + FN), `specificity` TN / (TN + FP);
- `ppv` TP / (TP + FP), `npv` TN / (TN + FN): these hold at the `prevalence` (TP + FN) / n of the tested rows
  and nowhere else.
"""

from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Weights
from meddistill.evaluation.tasks.classification.config import OperatingPoint
from meddistill.evaluation.tasks.classification.metrics import weighted_sums

ON_VALIDATION: Final = "threshold from validation"
ON_TEST: Final = "threshold from test rows, optimistic"
MEASURES: Final = ("sensitivity", "specificity", "ppv", "npv", "prevalence")
_SLACK: Final = 1e-9  # shares like 19/20 miss 0.95 by rounding


def setting_of(point: OperatingPoint, *, on_validation: bool, label: str = "") -> str:
    """What the results call the point: which label, which rule, on which rows it was applied."""
    place = ON_VALIDATION if on_validation else ON_TEST
    return f"{label}: {point.words}, {place}" if label else f"{point.words}, {place}"


def threshold(positive: Flags, scores: Floats, point: OperatingPoint) -> float | None:
    """The threshold that `point` asks for on rows with truth `positive` and `scores`, [n] each.

    Candidates are the scores themselves and the next number above the highest. None where the rows lack
    positive or negative ones. Of equal Youden indices the lowest threshold, which finds more, is taken.
    """
    if positive.all() or not positive.any():
        return None
    known = np.unique(scores)
    candidates = np.append(known, np.nextafter(known[-1], np.inf))
    sensitivity = _reached(scores[positive], candidates)
    left = 1 - _reached(scores[~positive], candidates)
    if point.sensitivity is not None:
        return float(candidates[sensitivity >= point.sensitivity - _SLACK].max())
    if point.specificity is not None:
        return float(candidates[left >= point.specificity - _SLACK].min())
    youden = sensitivity + left
    return float(candidates[youden >= youden.max() - _SLACK].min())


def at_threshold(positive: Flags, called: Flags, weights: Weights, groups: Ints) -> dict[str, Replicates]:
    """What calling the rows `called` positive leads to, for all resamples, [R] each.

    NaN where a denominator is zero. `weights` and `groups` as in `class_metrics`.
    """
    cells = (positive & called, positive & ~called, ~positive & called, ~positive & ~called)
    sums = weighted_sums(np.stack(cells, axis=1).astype(np.float64), weights, groups)
    hit, missed, false, rest = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (
            hit / (hit + missed),
            rest / (rest + false),
            hit / (hit + false),
            rest / (rest + missed),
            (hit + missed) / sums.sum(axis=1),
        )
    return dict(zip(MEASURES, values, strict=True))


def _reached(scores: Floats, candidates: Floats) -> Floats:
    """Share of `scores` that reach each candidate."""
    below = np.searchsorted(np.sort(scores), candidates, side="left")
    share: Floats = 1 - below / len(scores)
    return share
