"""Out-of-fold risks and survival of all patients."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from meddistill.evaluation.survival.config import SurvivalConfig
from meddistill.evaluation.survival.cox import fit_cox
from meddistill.evaluation.survival.discrete import fit_discrete
from meddistill.evaluation.survival.features import Block
from meddistill.evaluation.survival.folds import assign_folds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


_Known = tuple[Floats, Floats, Flags]


class Head(Protocol):
    """A fitted head."""

    def risk(self, features: Floats) -> Floats:
        """[n]; higher is an earlier event."""
        ...

    def survival(self, features: Floats, times: Floats) -> Floats:
        """Share without event at `times`, [n, times]."""
        ...

    def log_likelihood(self, features: Floats, times: Floats, events: Flags) -> float:
        """Of rows with these features."""
        ...


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Risks [n] and shares without event [n, g] of patients, each by a head that did not see them."""

    risks: Floats
    survival: Floats


def out_of_fold(
    block: Block, times: Floats, events: Flags, *, folds: Ints, grid: Floats, config: SurvivalConfig
) -> OutOfFold:
    """Cross-validation over `folds` [n]; everything, the penalty too, is learnt on a fold's other patients.

    The principal components of a training fold are not made again for the inner folds, which choose the
    penalty only: they know no outcome.
    """
    risks, survival = np.zeros(len(times)), np.ones((len(times), len(grid)))
    # One thread: the products are small (see `linear_probe.py`).
    with threadpool_limits(1):
        for fold in np.unique(folds):
            tested = folds == fold
            train = np.flatnonzero(~tested)
            features = block(train, int(events[train].sum()))
            known = (features[train], times[train], events[train])
            head = fit(*known, penalty=choose_penalty(*known, config=config), config=config)
            risks[tested] = head.risk(features[tested])
            survival[tested] = head.survival(features[tested], grid)
    return OutOfFold(risks=risks, survival=survival)


def fit(features: Floats, times: Floats, events: Flags, *, penalty: float, config: SurvivalConfig) -> Head:
    """The head that the config asks for."""
    if config.head == "cox":
        return fit_cox(features, times, events, penalty=penalty, ties=config.ties)
    return fit_discrete(features, times, events, penalty=penalty, bins=config.bins)


def choose_penalty(features: Floats, times: Floats, events: Flags, *, config: SurvivalConfig) -> float:
    """The penalty with the highest cross-validated log-likelihood; of equal ones the greatest.

    Σ over inner folds of ℓ(all rows) - ℓ(all but the fold), both with the coefficients fitted without the
    fold (Verweij and van Houwelingen 1993): for the discrete head that is the likelihood of the fold; for
    Cox, whose terms need those at risk, what the fold adds. With fewer than two events nothing can be
    compared, and the greatest penalty is taken.
    """
    penalties = sorted(config.penalties, reverse=True)
    if len(penalties) == 1 or events.sum() < 2:
        return penalties[0]
    inner = assign_folds(events, folds=config.inner_folds, seed=config.seed)
    gains = [_gain(penalty, (features, times, events), inner, config) for penalty in penalties]
    return penalties[int(np.argmax(gains))]


def _gain(penalty: float, known: _Known, inner: Ints, config: SurvivalConfig) -> float:
    features, times, events = known
    total = 0.0
    for fold in np.unique(inner):
        rest = inner != fold
        head = fit(features[rest], times[rest], events[rest], penalty=penalty, config=config)
        total += head.log_likelihood(features, times, events)
        total -= head.log_likelihood(features[rest], times[rest], events[rest])
    return total if np.isfinite(total) else -np.inf
