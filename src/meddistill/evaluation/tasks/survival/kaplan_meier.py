"""Curves and tests that follow from times and events alone."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import chi2, norm

from meddistill.arrays import Flags, Floats, Ints

_LEVEL: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve of steps that is one before `times[0]`: `values[k]` holds from `times[k]` on.

    `at_risk` [k] counts those with at least `times[k]`; `low` and `high` bound the 95 % interval at a time.
    """

    times: Floats
    values: Floats
    at_risk: Ints
    low: Floats
    high: Floats

    def __call__(self, times: Floats) -> Floats:
        """Values at `times`, a step included."""
        place = np.searchsorted(self.times, times, side="right")
        return np.concatenate([[1.0], self.values])[place]


def kaplan_meier(times: Floats, events: Flags) -> Curve:
    """Share without event: S(t) = Π (1 - d_k / n_k) over the distinct times t_k ≤ t.

    d_k events at t_k among the n_k with at least t_k. `times` [n] from 0, `events` [n]; all distinct times
    are steps, so that those without events keep the value. The interval is pointwise, from Greenwood's
    variance on the scale log(-log S), as survival packages have it by name "log-log": it stays within [0, 1].
    """
    distinct, died, _, at_risk = _counts(times, events)
    return _curve(distinct, died, at_risk)


def censoring(times: Floats, events: Flags) -> Curve:
    """Share not yet censored, G(t): Kaplan-Meier with events and censorings in each other's place.

    At equal times events come before censorings, so those with an event at t_k are not at risk there.
    """
    distinct, died, left, at_risk = _counts(times, events)
    return _curve(distinct, left, at_risk - died)


def log_rank(times: Floats, events: Flags, first: Flags, strata: Ints | None = None) -> float | None:
    """Two-sided p value of the log-rank test between the rows of `first` [n] and the others.

    χ² = (O - E)² / V with one degree of freedom (Mantel 1966); at a time with d events among n at risk, m of
    them in the first group, E = d m / n and V = d (m / n)(1 - m / n)(n - d) / (n - 1). With `strata` [n]
    O - E and V are summed over strata, whose patients are at risk among themselves. None where a group is
    empty or V is zero (no event while both groups are at risk).
    """
    own = np.zeros(len(times), dtype=np.int64) if strata is None else strata
    strata_rows = (own == stratum for stratum in np.unique(own))
    parts = [_gap_and_variance(times[rows], events[rows], first[rows]) for rows in strata_rows]
    gap, variance = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return float(chi2.sf(gap**2 / variance, 1)) if variance > 0 else None


def _gap_and_variance(times: Floats, events: Flags, first: Flags) -> tuple[float, float]:
    """O - E and V."""
    moments = np.unique(times[events])
    at_risk = (times[None] >= moments[:, None]).astype(np.int64)
    died = ((times[None] == moments[:, None]) & events[None]).astype(np.int64)
    n, mine, d = at_risk.sum(axis=1), at_risk[:, first].sum(axis=1), died.sum(axis=1)
    share = mine / np.maximum(n, 1)
    variance = float((d * share * (1 - share) * (n - d) / np.maximum(n - 1, 1)).sum())
    return float(died[:, first].sum() - (d * share).sum()), variance


def median_follow_up(times: Floats, events: Flags) -> float | None:
    """Median time until censoring by the reverse Kaplan-Meier estimate (Schemper and Smith 1996).

    None where G stays above one half.
    """
    curve = censoring(times, events)
    reached = curve.times[curve.values <= 0.5]
    return float(reached[0]) if len(reached) else None


def _counts(times: Floats, events: Flags) -> tuple[Floats, Ints, Ints, Ints]:
    """Distinct times; events, censorings and rows at risk at each."""
    distinct, places = np.unique(times, return_inverse=True)
    died = np.bincount(places, weights=events, minlength=len(distinct)).astype(np.int64)
    all_of_them = np.bincount(places, minlength=len(distinct)).astype(np.int64)
    at_risk = all_of_them[::-1].cumsum()[::-1]
    return distinct, died, all_of_them - died, at_risk


def _curve(distinct: Floats, steps: Ints, at_risk: Ints) -> Curve:
    known = at_risk > 0
    share = np.where(known, steps / np.maximum(at_risk, 1), 0.0)
    values = np.cumprod(1 - share)
    # After the last one at risk has had the event, Greenwood's sum is infinite and S is zero.
    ending = np.maximum(at_risk * (at_risk - steps), 1)
    greenwood = np.cumsum(np.where(steps < at_risk, steps / ending, 0.0))
    low, high = np.ones_like(values), np.ones_like(values)
    inside = (values > 0) & (values < 1)
    logs = np.log(values[inside])
    width = float(norm.ppf((1 + _LEVEL) / 2)) * np.sqrt(greenwood[inside]) / np.abs(logs)
    low[inside], high[inside] = values[inside] ** np.exp(width), values[inside] ** np.exp(-width)
    low[values <= 0], high[values <= 0] = 0.0, 0.0
    return Curve(times=distinct, values=values, at_risk=at_risk, low=low, high=high)
