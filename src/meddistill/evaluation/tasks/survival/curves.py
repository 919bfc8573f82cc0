"""Survival of the patients that a model holds to be at higher and at lower risk."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags
from meddistill.evaluation.tasks.survival.kaplan_meier import Curve, kaplan_meier, log_rank
from meddistill.evaluation.tasks.survival.metrics import TIED, RiskScores

HIGHER: Final = "higher risk"
LOWER: Final = "lower risk"
_MOST_POINTS: Final = 400


def risk_group_curves(risk_scores: RiskScores) -> list[dict[str, Any]]:
    """Fields of a `SurvivalCurve` for both groups, lower risk first; a group without patients is left out.

    Higher risk is above the median risk of the patient's own test fold: risks of two folds have no common
    scale, so they are cut one by one; in a stratified task at the median of the patients of one fold and
    stratum, so that both groups have every stratum's share, and the log-rank test is stratified. The p value
    of the log-rank test between the groups describes them and proves nothing: every patient taught the heads
    that ranked the others.
    """
    higher = split_at_median(risk_scores)
    p_value = log_rank(risk_scores.times, risk_scores.events, higher, risk_scores.strata)
    return [
        {
            "group": name,
            "p_value": p_value,
            **_points(kaplan_meier(risk_scores.times[rows], risk_scores.events[rows])),
        }
        for name, rows in ((LOWER, ~higher), (HIGHER, higher))
        if rows.any()
    ]


def split_at_median(risk_scores: RiskScores) -> Flags:
    """Whether a patient's risk is above the median of its fold and stratum, [n]."""
    higher = np.zeros(len(risk_scores.risks), dtype=bool)
    cells = risk_scores.cells
    for cell in np.unique(cells):
        rows = cells == cell
        higher[rows] = risk_scores.risks[rows] > np.median(risk_scores.risks[rows]) + TIED
    return higher


def _points(curve: Curve) -> dict[str, Any]:
    """The start and the steps of a curve, evenly thinned where there are very many."""
    kept = np.unique(np.linspace(0, len(curve.times) - 1, min(len(curve.times), _MOST_POINTS)).round())
    rows = kept.astype(np.int64)
    start = curve.times[0] > 0

    def listed(values: NDArray[Any], first: float) -> tuple[Any, ...]:
        return ((first,) if start else ()) + tuple(values[rows].tolist())

    return {
        "times": listed(curve.times, 0.0),
        "survival": listed(curve.values, 1.0),
        "low": listed(curve.low, 1.0),
        "high": listed(curve.high, 1.0),
        "at_risk": listed(curve.at_risk, int(curve.at_risk[0])),
    }
