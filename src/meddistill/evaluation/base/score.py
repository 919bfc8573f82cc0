"""One number with all its resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.base.bootstrap import Replicates
from meddistill.evaluation.base.results import ALL_ROWS

Mask = NDArray[np.bool_]

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


def undefined_note(note: str) -> str:
    """What a reader is told of a number that is not defined: its own reason, where `note` gives one."""
    return note if note.startswith(NOT_DEFINED) else UNDEFINED


def by_modality(modalities: Sequence[str]) -> Mapping[str, Mask]:
    """Mask of the rows of each known modality."""
    column = np.array(modalities, dtype=object)
    return {name: column == name for name in sorted(set(modalities) - {""})}
