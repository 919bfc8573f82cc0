"""Out-of-fold risks and survival of all patients."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.tasks.survival.config import SurvivalConfig
from meddistill.evaluation.tasks.survival.cox import fit_cox
from meddistill.evaluation.tasks.survival.discrete import fit_discrete
from meddistill.evaluation.tasks.survival.features import Block
from meddistill.evaluation.tasks.survival.folds import assign_folds


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What heads learn and are held against: [n] times, events, numbers of strata, and sites where known."""

    times: Floats
    events: Flags
    strata: Ints
    sites: Sequence[str] | None = None

    def take(self, rows: Ints | Flags) -> "Outcomes":
        """Those of some patients."""
        places = np.arange(len(self.times))[rows]
        sites = None if self.sites is None else [self.sites[place] for place in places]
        return replace(
            self, times=self.times[rows], events=self.events[rows], strata=self.strata[rows], sites=sites
        )


class Head(Protocol):
    """A fitted head."""

    def risk(self, features: Floats, strata: Ints | None = None) -> Floats:
        """[n]; higher is an earlier event."""
        ...

    def survival(self, features: Floats, times: Floats, strata: Ints | None = None) -> Floats:
        """Share without event at `times`, [n, times]."""
        ...

    def log_likelihood(
        self, features: Floats, times: Floats, events: Flags, strata: Ints | None = None
    ) -> float:
        """Of rows with these features."""
        ...


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Risks [n] and shares without event [n, g] of patients, each by a head that did not see them."""

    risks: Floats
    survival: Floats


def out_of_fold(
    block: Block, outcomes: Outcomes, *, folds: Ints, grid: Floats, config: SurvivalConfig
) -> OutOfFold:
    """Cross-validation over `folds` [n]; everything, the penalty too, is learnt on a fold's other patients.

    The principal components of a training fold are not made again for the inner folds, which choose the
    penalty only: they know no outcome.
    """
    risks, survival = np.zeros(len(folds)), np.ones((len(folds), len(grid)))
    strata = outcomes.strata
    # One thread: the products are small (see `linear_probe.py`).
    with one_thread():
        for fold in np.unique(folds):
            tested = folds == fold
            train = np.flatnonzero(~tested)
            known = outcomes.take(train)
            features = block(train, int(known.events.sum()))
            penalty = choose_penalty(features[train], known, config=config)
            head = fit(features[train], known, penalty=penalty, config=config)
            risks[tested] = head.risk(features[tested], strata[tested])
            survival[tested] = head.survival(features[tested], grid, strata[tested])
    return OutOfFold(risks=risks, survival=survival)


def fit(features: Floats, known: Outcomes, *, penalty: float, config: SurvivalConfig) -> Head:
    """The head that the config asks for."""
    rows = (features, known.times, known.events)
    if config.head == "cox":
        return fit_cox(*rows, penalty=penalty, ties=config.ties, strata=known.strata)
    return fit_discrete(*rows, penalty=penalty, bins=config.bins, strata=known.strata)


def choose_penalty(features: Floats, known: Outcomes, *, config: SurvivalConfig) -> float:
    """The penalty with the highest cross-validated log-likelihood; of equal ones the greatest.

    Σ over inner folds of ℓ(all rows) - ℓ(all but the fold), both with the coefficients fitted without the
    fold (Verweij and van Houwelingen 1993): for the discrete head that is the likelihood of the fold; for
    Cox, whose terms need those at risk, what the fold adds. Sites stay whole in inner folds too: a penalty
    that suits a known site may be too small for a new one. With one site, or fewer than two events nothing
    can be compared, and the greatest penalty is taken.
    """
    penalties = sorted(config.penalties, reverse=True)
    if len(penalties) == 1 or known.events.sum() < 2:
        return penalties[0]
    inner = inner_folds(known, config)
    if not inner.any():  # one fold: nobody would be left to fit on
        return penalties[0]
    gains = [_gain(penalty, features, known, inner=inner, config=config) for penalty in penalties]
    return penalties[int(np.argmax(gains))]


def inner_folds(known: Outcomes, config: SurvivalConfig) -> Ints:
    """The fold of every training patient, by the rules of the outer folds."""
    return assign_folds(
        known.events, folds=config.inner_folds, seed=config.seed, sites=known.sites, strata=known.strata
    )


def _gain(penalty: float, features: Floats, known: Outcomes, *, inner: Ints, config: SurvivalConfig) -> float:
    total = 0.0
    for fold in np.unique(inner):
        rest = inner != fold
        others = known.take(rest)
        head = fit(features[rest], others, penalty=penalty, config=config)
        total += head.log_likelihood(features, known.times, known.events, known.strata)
        total -= head.log_likelihood(features[rest], others.times, others.events, others.strata)
    return total if np.isfinite(total) else -np.inf
