"""Logistic hazards in stretches of time."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.tasks.survival.newton import Derivatives, minimize

# Keeps the intercept of a stretch finite in which all or none of those at risk have the event; it moves
# one that is neither by less than 1e-3 of an event.
_INTERCEPT: Final = 1e-3


@final
@dataclass(frozen=True, kw_only=True)
class DiscreteModel:
    """Coefficients [b, 1 + k] (intercept first) of the hazards of the stretches between `edges` [b + 1].

    `offsets` [b, s] are added to the intercepts for rows of the strata with the numbers `strata` [s]; rows of
    other strata have the intercepts alone.
    """

    coefficients: Floats
    edges: Floats
    strata: Ints
    offsets: Floats

    def risk(self, features: Floats, strata: Ints | None = None) -> Floats:
        """-Σ S over the ends of the stretches, [n]: higher is an earlier event."""
        return -np.exp(np.cumsum(self._log_kept(features, strata), axis=1)).sum(axis=1)

    def survival(self, features: Floats, times: Floats, strata: Ints | None = None) -> Floats:
        """S(t | x), [n, times]: inside a stretch the hazard is spread evenly, so that log S is linear there.

        After the last edge, the longest follow-up of the training rows, S stays what it is.
        """
        start = np.zeros((len(features), 1))
        steps = np.concatenate([start, self._log_kept(features, strata).cumsum(axis=1)], axis=1)
        place = np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, len(self.edges) - 2)
        widths = np.maximum(np.diff(self.edges)[place], 1e-300)
        share = np.clip((times - self.edges[place]) / widths, 0.0, 1.0)
        return np.exp(steps[:, place] * (1 - share) + steps[:, place + 1] * share)

    def log_likelihood(
        self, features: Floats, times: Floats, events: Flags, strata: Ints | None = None
    ) -> float:
        """Σ over rows and the stretches that they reach of y log h + (1 - y) log(1 - h)."""
        scores = self._scores(features, strata)
        reached, ended = _reached(times, events, self.edges)
        return float((ended * scores - reached * np.logaddexp(0.0, scores)).sum())

    def _scores(self, features: Floats, strata: Ints | None) -> Floats:
        scores: Floats = self.coefficients[:, 0] + features @ self.coefficients[:, 1:].T
        return scores if strata is None else scores + _members(strata, self.strata) @ self.offsets.T

    def _log_kept(self, features: Floats, strata: Ints | None) -> Floats:
        """log(1 - h), [n, b]."""
        return -np.logaddexp(0.0, self._scores(features, strata))


def fit_discrete(
    features: Floats, times: Floats, events: Flags, *, penalty: float, bins: int, strata: Ints | None = None
) -> DiscreteModel:
    """Ridge logistic regression of the hazard h_b(x) = P(event in stretch b | still at risk) for every b.

    Stretches have edges at the quantiles of the times of events (equal ones once), the first begins at 0 and
    the last ends with the follow-up. A censored row counts as kept through the stretch in which it was
    censored. Minimises -ℓ / events + penalty/2 · Σ |β_b|², where ℓ is the sum over stretches, which are fits
    of their own. Source: the discrete likelihood of Zadeh and Schmid (2021) as MCAT (Chen et al. 2021) uses
    it on bins of uncensored times, here with a linear model.

    With `strata` [n] every stratum moves the intercept of every stretch; stretches and β_b are common to all
    strata. In a stretch that no row of a stratum reaches, its rows have the intercept alone.
    """
    known = np.zeros(0, dtype=np.int64) if strata is None else np.unique(strata)
    known = known if len(known) > 1 else known[:0]
    members = np.zeros((len(features), 0)) if strata is None else _members(strata, known)
    rows = np.concatenate([np.ones((len(features), 1)), members, features], axis=1)
    edges = _edges(times, events, bins)
    reached, ended = _reached(times, events, edges)
    count = max(int(events.sum()), 1)
    ridge = np.full(rows.shape[1], penalty * count)
    ridge[: 1 + len(known)] = _INTERCEPT
    found = np.stack(
        [
            _logistic(rows[reached[:, b] > 0], ended[reached[:, b] > 0, b], ridge=ridge)
            for b in range(len(edges) - 1)
        ]
    )
    own = np.arange(1, 1 + len(known))
    return DiscreteModel(
        coefficients=np.delete(found, own, axis=1), edges=edges, strata=known, offsets=found[:, own]
    )


def _members(strata: Ints, known: Ints) -> Floats:
    """Whether row i is of the stratum `known[j]`, [n, s]."""
    return (strata[:, None] == known[None]).astype(np.float64)


def _edges(times: Floats, events: Flags, bins: int) -> Floats:
    died = times[events]
    inner = np.quantile(died, np.arange(1, bins) / bins) if len(died) else np.zeros(0)
    last = float(times.max(initial=0.0))
    inner = np.unique(inner)
    inner = inner[(inner > 0) & (inner < last)]
    return np.concatenate([[0.0], inner, [last if last > 0 else 1.0]])


def _reached(times: Floats, events: Flags, edges: Floats) -> tuple[Floats, Floats]:
    """Whether row i is at risk in stretch b, and whether its event is there; two matrices [n, b]."""
    own = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    stretch = np.arange(len(edges) - 1)
    reached = (stretch[None] <= own[:, None]).astype(np.float64)
    ended = ((stretch[None] == own[:, None]) & events[:, None]).astype(np.float64)
    return reached, ended


def _logistic(rows: Floats, ended: Floats, *, ridge: Floats) -> Floats:
    """The β that makes -ℓ + Σ ridge_k β_k² / 2 smallest."""
    count = max(len(rows), 1)

    def objective(point: Floats) -> Derivatives:
        scores = rows @ point
        value = float((np.logaddexp(0.0, scores) - ended * scores).sum() + 0.5 * (ridge * point**2).sum())
        hazard = np.exp(-np.logaddexp(0.0, -scores))
        gradient = rows.T @ (hazard - ended) + ridge * point
        hessian = rows.T @ (rows * (hazard * (1 - hazard))[:, None]) + np.diag(ridge)
        return value / count, gradient / count, hessian / count

    return minimize(objective, np.zeros(rows.shape[1]))
