"""Which group of patients every row of a table belongs to: a column's values, or bands of its numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from meddistill.arrays import Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.cells import number
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task_config import GroupConfig

MODALITY: Final = "modality"
MOST_LABELS: Final = 50
_BY_CHANCE: Final = 6  # so few patients may well be of as many sites


def group_columns(
    part: EvalSplit, groups: Mapping[str, GroupConfig], positions: Sequence[int], unit_ids: Ints | None = None
) -> dict[str, tuple[str, ...]]:
    """Group → the label of the rows at these positions (from 0) of `part`; "" where not known.

    A position below 0 stands for no row. `unit_ids` [rows] numbers rows that count as one (`agreed`).
    Raises TableError for a cell that no band can hold, and for a column
    of more than `MOST_LABELS` values.
    """
    columns = {}
    for name, config in groups.items():
        own = _labels(part, name, config)
        labels = own if unit_ids is None else agreed(own, unit_ids)
        columns[name] = tuple(labels[position] if position >= 0 else "" for position in positions)
    return columns


def agreed(labels: Sequence[str], unit_ids: Ints) -> tuple[str, ...]:
    """For every row the one label that the rows that count as one with it state; "" where they state several.

    Rows that state nothing ("") contradict no others. A patient or bag whose rows disagree is of no group,
    rather than of that of whichever row stands first.
    """
    stated: dict[int, set[str]] = {}
    for label, unit in zip(labels, unit_ids.tolist(), strict=True):
        stated.setdefault(unit, set()).update({label} - {""})
    return tuple(next(iter(stated[unit])) if len(stated[unit]) == 1 else "" for unit in unit_ids.tolist())


def check_groups(part: EvalSplit, groups: Mapping[str, GroupConfig]) -> None:
    """Raise TableError where `group_columns` does."""
    group_columns(part, groups, ())


def in_order(labels: Iterable[str], config: GroupConfig) -> list[str]:
    """The labels that occur, bands upwards, others by the alphabet, "" last."""
    present = set(labels)
    order = band_labels(config.bands) if config.bands else sorted(present - {""})
    return [label for label in (*order, "") if label in present]


def band_labels(bands: Sequence[float]) -> list[str]:
    """Labels of the bands between these bounds and on both sides of them; the lower bound belongs to one.

    >>> band_labels([18, 65])
    ['below 18', '18 to <65', '65 and above']
    """
    between = [f"{low:g} to <{high:g}" for low, high in pairwise(bands)]
    return [f"below {bands[0]:g}", *between, f"{bands[-1]:g} and above"]


def _labels(part: EvalSplit, name: str, config: GroupConfig) -> list[str]:
    samples = part.samples
    cells = samples.columns.get(name, samples.modalities if name == MODALITY else ())
    stripped = [cell.strip() for cell in cells]
    if not config.bands:
        _few(part, name, stripped)
        return stripped
    wrong = [
        row
        for row, cell in zip(samples.rows, stripped, strict=True)
        if cell and not math.isfinite(number(cell))
    ]
    if wrong:
        rule = (
            f"`{name}` must hold numbers, or nothing, to be banded; got other words in "
            f"{name_rows(wrong)}. Mend these cells, or leave `bands` out."
        )
        raise TableError(part.subject, [rule])
    named = band_labels(config.bands)
    return [named[sum(number(cell) >= bound for bound in config.bands)] if cell else "" for cell in stripped]


def _few(part: EvalSplit, name: str, cells: Sequence[str]) -> None:
    # Labels stand in the results: a column of names or of unbanded numbers must not get there.
    known = {cell for cell in cells if cell}
    if len(known) > MOST_LABELS:
        rule = (
            f"`{name}` must have at most {MOST_LABELS} values to make groups of patients; got {len(known)}. "
            "Give `bands` for a column of numbers, or name a coarser column."
        )
        raise TableError(part.subject, [rule])
    if any(_names(cells, each) for each in (part.samples.patients, part.samples.ids)):
        rule = f"`{name}` must not name single patients or rows to make groups; it does. Name another column."
        raise TableError(part.subject, [rule])


def _names(cells: Sequence[str], units: Sequence[str]) -> bool:
    """Whether the labels are the units, or stand for one unit each: another name of the same thing."""
    pairs = {(cell, unit) for cell, unit in zip(cells, units, strict=True) if cell}
    one_each = len(pairs) == len({cell for cell, _ in pairs}) == len({unit for _, unit in pairs})
    return tuple(cells) == tuple(units) or (one_each and len(pairs) >= _BY_CHANCE)
