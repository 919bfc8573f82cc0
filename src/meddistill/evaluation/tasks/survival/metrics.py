"""Discrimination and calibration of survival predictions over weighted patients, for all resamples at once.

Every metric of pairs is pooled within folds: Σ over folds of concordant (weighted) pairs over Σ of comparable
ones, where both patients of a pair are in one fold. The heads of two folds have their own scales, so that a
pair across folds would compare two models. In a stratified task both are of one stratum too: a pair across
cohorts would ask which cohort lives longer. Patients' weights multiply: a pair counts w_i w_j times.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates

MAIN: Final = "c_index"
# As in scikit-survival, so that numbers agree where a library's rounding makes risks nearly equal.
TIED: Final = 1e-8
LEAST_OBSERVED: Final = 0.1  # of the patients, who are not censored yet
_CHUNK: Final = 512


@dataclass(frozen=True, kw_only=True)
class RiskScores:
    """One prediction for each of n patients.

    `risks` (higher: earlier event) are compared within `folds` and `strata`, numbers without meaning.
    `censoring` is G at the patient's own time by the Kaplan-Meier estimate of censoring in the fold's
    training patients of the stratum; 0 where that time lies outside their follow-up, which ends at `reach`,
    and such a patient's event gets no weight in the metrics that need G. `survival` and `censoring_at` [n, g]
    are the share without event, and G, at the times `grid` [g] in ascending order.
    """

    times: Floats
    events: Flags
    risks: Floats
    folds: Ints
    strata: Ints
    censoring: Floats
    reach: Floats
    survival: Floats
    censoring_at: Floats
    grid: Floats

    def take(self, rows: Flags | Ints) -> "RiskScores":
        """Some of the patients."""
        of_patients = [each.name for each in fields(self) if each.name != "grid"]
        return replace(self, **{name: getattr(self, name)[rows] for name in of_patients})

    @property
    def cells(self) -> Ints:
        """The fold and stratum of every patient as one number."""
        both = np.stack([self.folds, self.strata])
        return np.unique(both, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)

    @property
    def case_weights(self) -> Floats:
        """1 / G at the time of an event; 0 for a censored patient and outside the training follow-up."""
        counts = self.events & (self.censoring > 0)
        return np.where(counts, 1 / np.where(counts, self.censoring, 1.0), 0.0)


def survival_metrics(risk_scores: RiskScores, weights: Floats, horizons: Floats) -> dict[str, Replicates]:
    """Every metric under every row of `weights` [R, n]; NaN where one is not defined.

    `c_index` (Harrell 1982), `uno_c` (Uno et al. 2011), `auc_at_<t>` for every horizon (cumulative cases,
    dynamic controls, weighted by 1/G: Uno et al. 2007; Hung and Chiang 2010) and `mean_auc`, their plain
    mean, `integrated_brier` (Graf et al. 1999; lower is better).
    """
    metrics = concordance(risk_scores, weights)
    areas = {f"auc_at_{time:g}": horizon_auc(risk_scores, weights, time) for time in horizons}
    metrics |= areas
    if areas:
        metrics["mean_auc"] = np.mean(list(areas.values()), axis=0)
    return metrics | {"integrated_brier": integrated_brier(risk_scores, weights)}


def concordance(risk_scores: RiskScores, weights: Floats) -> dict[str, Replicates]:
    """Harrell's and Uno's C.

    A pair (i, j) is comparable when i's event comes before time_j, or at time_j where j was censored; it is
    concordant when risk_i > risk_j, and counts half where the risks are equal. Uno's C gives the pairs of i
    the weight 1 / G(time_i)², so that it does not depend on who was censored when. It is truncated, as Uno
    et al. ask, where G falls below `LEAST_OBSERVED`: later events would each weigh a hundred times as much as
    the first ones, and one of them decide the number.
    """
    tops, bottoms = np.zeros((2, len(weights))), np.zeros((2, len(weights)))
    told = risk_scores.censoring >= LEAST_OBSERVED
    factors = np.stack([np.ones(len(risk_scores.times)), np.where(told, risk_scores.case_weights**2, 0.0)])
    for rows in _by_cell(risk_scores.cells):
        part, shares = risk_scores.take(rows), weights[:, rows]
        died = np.flatnonzero(part.events)
        for start in range(0, len(died), _CHUNK):
            some = died[start : start + _CHUNK]
            comparable, concordant = _pairs(part, some)
            above, all_pairs = shares @ concordant.T, shares @ comparable.T
            for row, factor in enumerate(factors[:, rows[some]]):
                mine = shares[:, some] * factor
                tops[row] += (mine * above).sum(axis=1)
                bottoms[row] += (mine * all_pairs).sum(axis=1)
    return {MAIN: _ratio(tops[0], bottoms[0]), "uno_c": _ratio(tops[1], bottoms[1])}


def _pairs(risk_scores: RiskScores, died: Ints) -> tuple[Floats, Floats]:
    """Whether (i, j) is comparable, and how concordant it is, [died, n]."""
    later = risk_scores.times[None] > risk_scores.times[died, None]
    level = (risk_scores.times[None] == risk_scores.times[died, None]) & ~risk_scores.events[None]
    comparable = (later | level).astype(np.float64)
    gap = risk_scores.risks[died, None] - risk_scores.risks[None]
    tied = np.abs(gap) <= TIED
    return comparable, comparable * np.where(tied, 0.5, gap > 0)


def horizon_auc(risk_scores: RiskScores, weights: Floats, time: float) -> Replicates:
    """AUC of those with an event until `time`, each weighted by 1 / G(time_i), against those beyond it.

    Strata whose training follow-up ends before `time` have no G there and are left out.
    """
    top, bottom = np.zeros(len(weights)), np.zeros(len(weights))
    factors = risk_scores.case_weights
    for every in _by_cell(risk_scores.cells):
        rows = every[risk_scores.reach[every] > time]
        risks = risk_scores.risks[rows]
        cases = np.flatnonzero((risk_scores.times[rows] <= time) & (factors[rows] > 0))
        controls = np.flatnonzero(risk_scores.times[rows] > time)
        order = controls[np.argsort(risks[controls], kind="stable")]
        ordered = weights[:, rows[order]]
        below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(ordered, axis=1)], axis=1)
        low = np.searchsorted(risks[order], risks[cases] - TIED, side="left")
        high = np.searchsorted(risks[order], risks[cases] + TIED, side="right")
        mine = weights[:, rows[cases]] * factors[rows[cases]]
        top += (mine * (below[:, low] + below[:, high])).sum(axis=1) / 2
        bottom += mine.sum(axis=1) * below[:, -1]
    return _ratio(top, bottom)


def integrated_brier(risk_scores: RiskScores, weights: Floats) -> Replicates:
    """Mean Brier score over the time between the ends of `grid`, by the trapezoidal rule.

    BS(t) = mean of S_i(t)² / G(time_i) for an event until t, (1 - S_i(t))² / G(t) for those beyond t, and 0
    for those censored before. Probabilities have one scale in all folds, so that all patients are pooled.
    Patients of strata whose training follow-up ends before the last time are left out. NaN with fewer than
    two times.
    """
    grid = risk_scores.grid
    if len(grid) < 2:
        return np.full(len(weights), np.nan)
    case = (risk_scores.times[:, None] <= grid) * risk_scores.case_weights[:, None]
    beyond = (risk_scores.times[:, None] > grid) & (risk_scores.censoring_at > 0)
    control = np.where(beyond, 1 / np.where(beyond, risk_scores.censoring_at, 1.0), 0.0)
    scores = risk_scores.survival**2 * case + (1 - risk_scores.survival) ** 2 * control
    each = np.trapezoid(scores, grid, axis=1) / (grid[-1] - grid[0])
    known = (risk_scores.reach > grid[-1]).astype(np.float64)
    return _ratio(weights @ (each * known), weights @ known)


def _by_cell(cells: Ints) -> Iterator[Ints]:
    for cell in np.unique(cells):
        yield np.flatnonzero(cells == cell)


def _ratio(top: Replicates, bottom: Replicates) -> Replicates:
    defined = bottom > 0
    return np.where(defined, top / np.where(defined, bottom, 1.0), np.nan)
