"""Which group of patients every row of a table belongs to: a column's values, or bands of its numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence

from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.tables import Part
from meddistill.evaluation.task_config import GroupConfig

MODALITY = "modality"


def group_columns(
    part: Part, groups: Mapping[str, GroupConfig], positions: Sequence[int]
) -> dict[str, tuple[str, ...]]:
    """Group → the label of the rows at these positions (from 0) of `part`; "" where not known.

    A position below 0 stands for no row. Raises TableError for a cell that no band can hold.
    """
    found = {}
    for name, config in groups.items():
        labels = _labels(part, name, config)
        found[name] = tuple(labels[position] if position >= 0 else "" for position in positions)
    return found


def check_groups(part: Part, groups: Mapping[str, GroupConfig]) -> None:
    """Raise TableError for cells that are to be banded and hold no number."""
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
    between = [f"{low:g} to <{high:g}" for low, high in zip(bands[:-1], bands[1:], strict=True)]
    return [f"below {bands[0]:g}", *between, f"{bands[-1]:g} and above"]


def _labels(part: Part, name: str, config: GroupConfig) -> list[str]:
    samples = part.samples
    cells = samples.columns.get(name, samples.modalities if name == MODALITY else ())
    stripped = [cell.strip() for cell in cells]
    if not config.bands:
        return stripped
    wrong = [
        (row, cell)
        for row, cell in zip(samples.rows, stripped, strict=True)
        if cell and not math.isfinite(_number(cell))
    ]
    if wrong:
        rule = (
            f"`{name}` must hold numbers, or nothing, to be banded; got {wrong[0][1]!r} and the like in "
            f"{name_rows([row for row, _ in wrong])}. Mend these cells, or leave `bands` out."
        )
        raise TableError(part.subject, [rule])
    named = band_labels(config.bands)
    return [named[sum(_number(cell) >= bound for bound in config.bands)] if cell else "" for cell in stripped]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
