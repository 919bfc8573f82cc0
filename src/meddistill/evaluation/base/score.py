"""One number with all its resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from meddistill.arrays import Flags, Ints, Places
from meddistill.evaluation.base.bootstrap import Replicates
from meddistill.evaluation.base.results import ALL_ROWS

UNDEFINED: Final = "not defined on these rows"
NOT_DEFINED: Final = "not defined: "  # and why: the note of a score without a value


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of one model on one task with all its resamples; entry 0 is the estimate itself.

    `note` is for the reader of the number, "" for none.
    """

    metric: str
    replicates: Replicates
    n: int
    patients: int
    modality: str = ALL_ROWS
    setting: str = ""
    seeds: int = 1
    spread: float | None = None
    main: bool = field(default=False)
    note: str = ""


def averaged(metric: str, fits: Sequence[Replicates], **facts: Any) -> Score:
    """The mean of what was `found` in several fits, resample by resample; `facts` are further fields."""
    spread = deviation([float(each[0]) for each in fits])
    return Score(metric=metric, replicates=np.mean(fits, axis=0), seeds=len(fits), spread=spread, **facts)


def averages(fits: Sequence[Mapping[str, Replicates]], *, main: str, **facts: Any) -> list[Score]:
    """The mean over `fits` of every metric that these have; `main` names the main one."""
    return [
        averaged(metric, [fit[metric] for fit in fits], main=metric == main, **facts) for metric in fits[0]
    ]


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation between fits; None with one, or where one has no value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 and np.isfinite(values).all() else None


def by_seed(seeds: Ints, mask: Flags | None = None) -> list[Places]:
    """Places of the rows of each seed, of all rows or of those in `mask`."""
    counted = np.ones(len(seeds), dtype=bool) if mask is None else mask
    return [np.flatnonzero(counted & (seeds == seed)) for seed in np.unique(seeds[counted])]


def undefined_note(note: str) -> str:
    """What a reader is told of a number that is not defined: its own reason, where `note` gives one."""
    return note if note.startswith(NOT_DEFINED) else UNDEFINED


def by_modality(modalities: Sequence[str]) -> Mapping[str, Flags]:
    """Mask of the rows of each known modality."""
    column = np.array(modalities, dtype=object)
    return {name: column == name for name in sorted(set(modalities) - {""})}
