"""Who is ranked by whose head, and at which times: fixed by outcomes and seeds, the same for every model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.errors import ConfigError
from meddistill.evaluation.tasks.survival.cohort import Cohort
from meddistill.evaluation.tasks.survival.config import SurvivalConfig
from meddistill.evaluation.tasks.survival.folds import assign_folds
from meddistill.evaluation.tasks.survival.kaplan_meier import censoring

_QUARTILES: Final = (0.25, 0.5, 0.75)
_GRID_POINTS: Final = 21


@dataclass(frozen=True, kw_only=True)
class Plan:
    """For each of r divisions: the fold of every patient, `folds` [r, n], and G of its training patients.

    Those of its stratum, that is; of all strata where none is of it. `reach` [r, n] is the end of their
    follow-up, `censoring` [r, n] G at the patient's own time, 0 from that end on; `censoring_at` [r, n, g] is
    G at the times `grid` [g], among which are the `horizons`.
    """

    folds: Ints
    horizons: Floats
    grid: Floats
    censoring: Floats
    censoring_at: Floats
    reach: Floats
    strangers: int
    """Patients of strata without training patients, in the division with most of them."""


def make_plan(cohort: Cohort, config: SurvivalConfig) -> Plan:
    """The divisions, and times inside the follow-up of every training fold of all of them.

    Raises ConfigError for a column of sites with one site, and for horizons beyond the follow-up.
    """
    if cohort.sites is not None and len(set(cohort.sites)) < 2:
        rule = (
            f"`site` must name a column with two sites at least; all rows of `{config.site}` are of one. "
            "Leave `site` out."
        )
        raise ConfigError(config.subject, [rule])
    folds = np.stack(
        [
            assign_folds(
                cohort.events,
                folds=config.folds,
                seed=config.seed + each,
                sites=cohort.sites,
                strata=cohort.strata,
            )
            for each in range(config.repeats)
        ]
    )
    horizons = _horizons(cohort, config, last=_last(cohort.times, folds))
    grid = _grid(horizons, cohort.times)
    own, reach = np.zeros(folds.shape), np.zeros(folds.shape)
    at_grid = np.zeros((*folds.shape, len(grid)))
    strangers = np.zeros(len(folds), dtype=np.int64)
    for division, numbers in enumerate(folds):
        for tested, train, known in _cells(numbers, cohort.strata):
            times = cohort.times[train]
            curve = censoring(times, cohort.events[train])
            reach[division, tested] = times.max(initial=0.0)
            inside = cohort.times[tested] < reach[division, tested]
            own[division, tested] = np.where(inside, curve(cohort.times[tested]), 0.0)
            at_grid[division, tested] = curve(grid)
            strangers[division] += 0 if known else int(tested.sum())
    return Plan(
        folds=folds,
        horizons=horizons,
        grid=grid,
        censoring=own,
        censoring_at=at_grid,
        reach=reach,
        strangers=int(strangers.max(initial=0)),
    )


def _cells(folds: Ints, strata: Ints) -> Iterator[tuple[Flags, Flags, bool]]:
    """Tested patients of one fold and stratum, their training patients, and whether these are of the stratum.

    In a task without strata the training patients of its one stratum are all there are.
    """
    for fold, stratum in np.unique(np.stack([folds, strata], axis=1), axis=0):
        train = folds != fold
        mine = train & (strata == stratum)
        known = bool(mine.any()) or not train.any()
        yield (folds == fold) & (strata == stratum), mine if known else train, known


def _last(times: Floats, folds: Ints) -> float:
    """The shortest of the longest follow-ups of all training folds."""
    ends = [
        float(times[numbers != fold].max(initial=0.0)) for numbers in folds for fold in np.unique(numbers)
    ]
    return min(ends, default=0.0)


def _horizons(cohort: Cohort, config: SurvivalConfig, *, last: float) -> Floats:
    if config.horizons:
        beyond = [time for time in config.horizons if time >= last]
        if beyond:
            got = ", ".join(f"{time:g}" for time in beyond)
            rule = (
                f"`horizons` must lie before {last:g} {config.unit}, where the shortest follow-up of a "
                f"training fold ends; got {got}. Choose earlier times."
            )
            raise ConfigError(config.subject, [rule])
        return np.array(config.horizons)
    died = cohort.times[cohort.events]
    if not len(died):
        return np.zeros(0)
    rounded = np.unique([float(f"{time:.3g}") for time in np.quantile(died, _QUARTILES)])
    return rounded[(rounded > 0) & (rounded < last)]


def _grid(horizons: Floats, times: Floats) -> Floats:
    """Horizons and evenly spaced times between them; one time at least."""
    if not len(horizons):
        return np.array([float(np.median(times))])
    return np.unique(np.concatenate([np.linspace(horizons[0], horizons[-1], _GRID_POINTS), horizons]))
