"""Cox proportional hazards with a ridge penalty."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.survival.newton import Derivatives, minimise

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
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
        died = np.flatnonzero(self._events)
        # In descending order of time the rows at risk of an event are those up to the end of its time.
        self._ends = np.searchsorted(-self._times, -self._times[died], side="right") - 1
        # Events of one time are neighbours in `died`: where each stands among them, and how many they are.
        _, places, counts = np.unique(self._times[died], return_inverse=True, return_counts=True)
        firsts = np.searchsorted(-self._times[died], -self._times[died], side="left")
        within = np.arange(len(died)) - firsts
        self._share = within / counts[places] if ties == "efron" else np.zeros(len(died))
        self._died, self._same = died, places

    @property
    def events(self) -> int:
        """How many events there are."""
        return len(self._died)

    def value(self, coefficients: Floats) -> float:
        """ℓ(β)."""
        scores = self._features @ coefficients
        top = scores.max(initial=-np.inf) if len(scores) else 0.0
        risk = np.exp(scores - top)
        total = np.cumsum(risk)[self._ends] - self._share * self._tied(risk[self._died])
        return float((scores[self._died] - top - np.log(total)).sum())

    def derivatives(self, coefficients: Floats) -> Derivatives:
        """-ℓ(β), its gradient and its Hessian."""
        scores = self._features @ coefficients
        top = scores.max(initial=-np.inf) if len(scores) else 0.0
        risk = np.exp(scores - top)
        first = risk[:, None] * self._features
        second = first[:, :, None] * self._features[:, None, :]
        total, mean, square = (self._sums(each) for each in (risk, first, second))
        mean = mean / total[:, None]
        value = -float((scores[self._died] - top - np.log(total)).sum())
        gradient = mean.sum(axis=0) - self._features[self._died].sum(axis=0)
        hessian = (square / total[:, None, None]).sum(axis=0) - mean.T @ mean
        return value, gradient, hessian

    def _sums(self, values: Floats) -> Floats:
        """For every event: the sum over the rows at risk less its share of that over the tied events."""
        share = self._share.reshape(-1, *[1] * (values.ndim - 1))
        found: Floats = np.cumsum(values, axis=0)[self._ends]
        return found - share * self._tied(values[self._died]) if share.any() else found

    def _tied(self, values: Floats) -> Floats:
        """For every event: the sum of `values` [events, ...] over the events at its time."""
        sums = np.zeros((int(self._same.max(initial=-1)) + 1, *values.shape[1:]))
        np.add.at(sums, self._same, values)
        return sums[self._same]


@final
@dataclass(frozen=True, kw_only=True)
class CoxModel:
    """Coefficients, and the rows that they were fitted on for the baseline hazard."""

    coefficients: Floats
    features: Floats
    times: Floats
    events: Flags
    ties: Ties

    def risk(self, features: Floats) -> Floats:
        """The log of the relative hazard, x·β, [n]: higher is an earlier event."""
        return features @ self.coefficients

    def survival(self, features: Floats, times: Floats) -> Floats:
        """S(t | x) = exp(-H(t) exp(x·β)), [n, times], with Breslow's cumulative baseline hazard H.

        H(t) = Σ d_k / Σ exp(x_j·β) over event times t_k ≤ t and the rows j at risk; used with both ways of
        counting ties, as survival packages do.
        """
        moments, hazard = self._baseline
        reached = np.concatenate([[0.0], hazard])[np.searchsorted(moments, times, side="right")]
        with np.errstate(over="ignore"):  # an infinite hazard is a survival of zero, but 0 x ∞ is not
            relative = np.minimum(np.exp(self.risk(features)), 1e300)
        return np.exp(-relative[:, None] * reached[None])

    def log_likelihood(self, features: Floats, times: Floats, events: Flags) -> float:
        """Of other rows, with these coefficients."""
        return PartialLikelihood(features, times, events, self.ties).value(self.coefficients)

    @cached_property
    def _baseline(self) -> tuple[Floats, Floats]:
        relative = np.exp(self.risk(self.features))
        moments, counts = np.unique(self.times[self.events], return_counts=True)
        at_risk = np.array([relative[self.times >= moment].sum() for moment in moments])
        return moments, np.cumsum(counts / at_risk)


def fit_cox(features: Floats, times: Floats, events: Flags, *, penalty: float, ties: Ties) -> CoxModel:
    """The β that makes -ℓ(β) / events + penalty/2 · |β|² smallest; zero where there is no event.

    Dividing by the events keeps one grid of penalties fit for small and large cohorts. Sources: Cox (1972);
    Breslow (1974); Efron (1977); ridge: Verweij and van Houwelingen (1994).
    """
    likelihood = PartialLikelihood(features, times, events, ties)
    coefficients = np.zeros(features.shape[1])
    if likelihood.events:
        eye = penalty * np.eye(len(coefficients))

        def objective(point: Floats) -> Derivatives:
            value, gradient, hessian = likelihood.derivatives(point)
            count = likelihood.events
            ridge = penalty * point
            return value / count + 0.5 * float(point @ ridge), gradient / count + ridge, hessian / count + eye

        coefficients = minimise(objective, coefficients)
    return CoxModel(coefficients=coefficients, features=features, times=times, events=events, ties=ties)
