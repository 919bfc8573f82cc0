"""Cox proportional hazards with a ridge penalty, with a baseline hazard for every stratum."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.tasks.survival.newton import Derivatives, minimize

Ties = Literal["efron", "breslow"]


@final
class PartialLikelihood:
    """The logarithm of Cox's partial likelihood of coefficients β, on given rows.

    ℓ(β) = Σ_i x_i·β - Σ_i log( S_i - f_i T_i ) over events i, where S_i = Σ exp(x_j·β) over the rows j at
    risk (time_j ≥ time_i) and T_i the same sum over the events at time_i alone. Breslow: f = 0. Efron (1977):
    f = 0, 1/m, ..., (m - 1)/m for the m events of one time. `features` [n, k], `times` [n], `events` [n].
    """

    def __init__(self, features: Floats, times: Floats, events: Flags, ties: Ties) -> None:
        order = np.argsort(-times, kind="stable")
        self._features, self._times, self._events = features[order], times[order], events[order]
        self._died = np.flatnonzero(self._events)
        moments = self._times[self._died]
        # In descending order of time the rows at risk of an event are those up to the end of its time.
        self._ends = np.searchsorted(-self._times, -moments, side="right") - 1
        # Events of one time are neighbours in `died`: where each stands among them, of how many.
        within = np.arange(len(moments)) - np.searchsorted(-moments, -moments, side="left")
        self._firsts = np.flatnonzero(within == 0)
        self._moment = np.cumsum(within == 0) - 1
        counts = np.bincount(self._moment)[self._moment] if len(moments) else within
        self._share = within / counts if ties == "efron" else np.zeros(len(moments))

    @property
    def events(self) -> int:
        """How many events there are."""
        return len(self._died)

    def value(self, coefficients: Floats) -> float:
        """ℓ(β)."""
        scores, _, total = self._at(coefficients)
        return self._value(scores, total)

    def derivatives(self, coefficients: Floats) -> Derivatives:
        """-ℓ(β), its gradient and its Hessian."""
        scores, risk, total = self._at(coefficients)
        mean = self._sums(risk[:, None] * self._features) / total[:, None]
        # How much row j counts in the denominators: exp(x_j·β) Σ 1 / total over events with j at risk, less
        # the shares of events at j's own time. So no product of a row with itself is kept for each event.
        inverse = np.bincount(self._ends, weights=1 / total, minlength=len(risk))
        counted = inverse[::-1].cumsum()[::-1]
        counted[self._died] -= self._tied(self._share / total)
        counted *= risk
        gradient = counted @ self._features - self._features[self._died].sum(axis=0)
        hessian = self._features.T @ (self._features * counted[:, None]) - mean.T @ mean
        return -self._value(scores, total), gradient, hessian

    def _at(self, coefficients: Floats) -> tuple[Floats, Floats, Floats]:
        """Scores less the greatest of them, their exponentials [n], and the denominator of every event."""
        scores = self._features @ coefficients
        scores = scores - scores.max() if len(scores) else scores
        risk = np.exp(scores)
        return scores, risk, self._sums(risk)

    def _value(self, scores: Floats, total: Floats) -> float:
        return float((scores[self._died] - np.log(total)).sum())

    def _sums(self, values: Floats) -> Floats:
        """For every event: the sum over the rows at risk less its share of that over the tied events."""
        sums: Floats = np.cumsum(values, axis=0)[self._ends]
        if not self._share.any():
            return sums
        share = self._share.reshape(-1, *[1] * (values.ndim - 1))
        return sums - share * self._tied(values[self._died])

    def _tied(self, values: Floats) -> Floats:
        """For every event: the sum of `values` [events, ...] over the events at its time."""
        sums: Floats = np.add.reduceat(values, self._firsts, axis=0)[self._moment]
        return sums


@final
class StratifiedLikelihood:
    """ℓ(β) = Σ over strata of the partial likelihood of their rows: at risk are rows of the stratum alone.

    So every stratum has a baseline hazard of its own, and β is common to all (Kalbfleisch and Prentice 2002,
    section 4.4). `strata` [n] are numbers without meaning; a stratum without events says nothing of β.
    """

    def __init__(self, features: Floats, times: Floats, events: Flags, *, ties: Ties, strata: Ints) -> None:
        self._width = features.shape[1]
        self._parts = [
            PartialLikelihood(features[rows], times[rows], events[rows], ties)
            for rows in (strata == stratum for stratum in np.unique(strata[events]))
        ]

    @property
    def events(self) -> int:
        """How many events there are."""
        return sum(part.events for part in self._parts)

    def value(self, coefficients: Floats) -> float:
        """ℓ(β)."""
        return sum(part.value(coefficients) for part in self._parts)

    def derivatives(self, coefficients: Floats) -> Derivatives:
        """-ℓ(β), its gradient and its Hessian."""
        value, gradient = 0.0, np.zeros(self._width)
        hessian = np.zeros((self._width, self._width))
        for part in self._parts:
            terms = part.derivatives(coefficients)
            value, gradient, hessian = value + terms[0], gradient + terms[1], hessian + terms[2]
        return value, gradient, hessian


@final
@dataclass(frozen=True, kw_only=True)
class CoxModel:
    """Coefficients, and the rows that they were fitted on for the baseline hazards of their strata."""

    coefficients: Floats
    features: Floats
    times: Floats
    events: Flags
    ties: Ties
    strata: Ints

    def risk(self, features: Floats, strata: Ints | None = None) -> Floats:
        """The log of the relative hazard in the row's stratum, x·β, [n]: higher is an earlier event."""
        del strata
        return features @ self.coefficients

    def survival(self, features: Floats, times: Floats, strata: Ints | None = None) -> Floats:
        """S(t | x) = exp(-H(t) exp(x·β)), [n, times], with Breslow's cumulative baseline hazard H.

        H(t) = Σ d_k / Σ exp(x_j·β) over event times t_k ≤ t and the rows j at risk; used with both ways of
        counting ties, as survival packages do. `strata` [n] (by default all 0) tell whose H a row has; one
        that no row of the fit is of has that of all rows together.
        """
        own = unstratified(features) if strata is None else strata
        reached = np.empty((len(features), len(times)))
        for stratum in np.unique(own):
            moments, hazard = self._baselines.get(int(stratum)) or self._pooled
            place = np.searchsorted(moments, times, side="right")
            reached[own == stratum] = np.concatenate([[0.0], hazard])[place]
        with np.errstate(over="ignore"):  # an infinite hazard is a survival of zero, but 0 x ∞ is not
            relative = np.minimum(np.exp(self.risk(features)), 1e300)
        return np.exp(-relative[:, None] * reached)

    def log_likelihood(
        self, features: Floats, times: Floats, events: Flags, strata: Ints | None = None
    ) -> float:
        """Of other rows, with these coefficients."""
        own = unstratified(features) if strata is None else strata
        rows = StratifiedLikelihood(features, times, events, ties=self.ties, strata=own)
        return rows.value(self.coefficients)

    @cached_property
    def _baselines(self) -> Mapping[int, tuple[Floats, Floats]]:
        return {int(stratum): self._baseline(self.strata == stratum) for stratum in np.unique(self.strata)}

    @cached_property
    def _pooled(self) -> tuple[Floats, Floats]:
        return self._baseline(np.ones(len(self.times), dtype=bool))

    def _baseline(self, rows: Flags) -> tuple[Floats, Floats]:
        relative, times = np.exp(self.risk(self.features[rows])), self.times[rows]
        moments, counts = np.unique(times[self.events[rows]], return_counts=True)
        at_risk = np.array([relative[times >= moment].sum() for moment in moments])
        return moments, np.cumsum(counts / at_risk)


def unstratified(features: Floats) -> Ints:
    """One stratum for all rows."""
    return np.zeros(len(features), dtype=np.int64)


def fit_cox(
    features: Floats, times: Floats, events: Flags, *, penalty: float, ties: Ties, strata: Ints | None = None
) -> CoxModel:
    """The β that makes -ℓ(β) / events + penalty/2 · |β|² smallest; zero where there is no event.

    Dividing by the events keeps one grid of penalties fit for small and large cohorts. With `strata` [n] ℓ is
    stratified. Sources: Cox (1972);
    Breslow (1974); Efron (1977); ridge: Verweij and van Houwelingen (1994).
    """
    own = unstratified(features) if strata is None else strata
    likelihood = StratifiedLikelihood(features, times, events, ties=ties, strata=own)
    coefficients = np.zeros(features.shape[1])
    if likelihood.events:
        eye = penalty * np.eye(len(coefficients))

        def objective(point: Floats) -> Derivatives:
            value, gradient, hessian = likelihood.derivatives(point)
            count = likelihood.events
            ridge = penalty * point
            return value / count + 0.5 * float(point @ ridge), gradient / count + ridge, hessian / count + eye

        coefficients = minimize(objective, coefficients)
    return CoxModel(
        coefficients=coefficients, features=features, times=times, events=events, ties=ties, strata=own
    )
