"""Where the instances of a bag lie, and attention as a map of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.cells import number
from meddistill.evaluation.base.exhibits import AttentionMap
from meddistill.evaluation.base.split import EvalSplit

MOST_CELLS: Final = 80  # along a side of a map
_LARGEST: Final = 2.0**53


@dataclass(frozen=True, kw_only=True)
class Instances:
    """The instances of the tested bags in the bags' order, as `BagPredictions` holds them."""

    table: str
    numbers: tuple[Ints, ...]
    places: tuple[Ints, ...] | None


def table_places(part: EvalSplit, columns: tuple[str, str]) -> Ints:
    """Corners [n, 2] of a table's rows, whole numbers. Raises TableError where one is no finite number."""
    places = np.zeros((len(part), 2))
    mistakes = []
    for axis, name in enumerate(columns):
        values = np.array([number(each) for each in part.labels(name)])
        bad = np.flatnonzero(~(np.abs(values) < _LARGEST))
        if len(bad):
            rows = name_rows([part.samples.rows[place] for place in bad])
            mistakes.append(f"`{name}` must hold numbers, the places of images; it has not in {rows}.")
        else:
            places[:, axis] = values
    TableError.raise_any(part.subject, mistakes)
    return np.rint(places).astype(np.int64)


def attention_map(places: Ints, weights: Floats, numbers: Ints) -> AttentionMap | None:
    """Attention on the grid of the instances' corners; None where all lie at one place.

    `places` [n, 2] are corners (x, y), `weights` [n] attention that sums to one, `numbers` [n] the instances'
    own. The width of a cell is the commonest distance between neighbours in a row, its height that in a
    column, so that tiles of several grids (CLAM begins one in every piece of tissue) fall into the nearest
    cells. On a grid longer than `MOST_CELLS` cells are joined, k x k of them with the smallest k that will
    do; the attention of a cell is the mean over its instances.
    """
    corner = places.min(axis=0)
    if (places == corner).all():
        return None
    grid = np.rint((places - corner) / _cell(places)).astype(np.int64)
    grid //= max(1, -(-(int(grid.max()) + 1) // MOST_CELLS))
    columns, rows = (grid.max(axis=0) + 1).tolist()
    cells, place = np.unique(grid[:, 1] * columns + grid[:, 0], return_inverse=True)
    relative = np.bincount(place, weights=weights * len(weights)) / np.bincount(place)
    order = np.argsort(-weights, kind="stable")
    _, first = np.unique(place[order], return_index=True)
    return AttentionMap(
        columns=columns,
        rows=rows,
        cells=tuple(cells.tolist()),
        attention=tuple(float(f"{each:.3g}") for each in relative),
        instances=tuple(numbers[order[first]].tolist()),
    )


def _cell(places: Ints) -> Floats:
    """Width and height of a cell, in the unit of the places."""
    steps = [_step(places[:, axis], places[:, 1 - axis]) for axis in (0, 1)]
    known = [each for each in steps if each] or [_least(places)]
    return np.array([each or known[0] for each in steps])


def _step(along: Ints, across: Ints) -> float:
    """The commonest distance between neighbours in one line; 0 where no line has two.

    Corners are rounded: the mean is taken over distances that differ from the commonest by one at most.
    """
    order = np.lexsort((along, across))
    steps = np.diff(along[order])
    steps = steps[(np.diff(across[order]) == 0) & (steps > 0)]
    if not len(steps):
        return 0.0
    values, counts = np.unique(steps, return_counts=True)
    return float(steps[np.abs(steps - values[counts.argmax()]) <= 1].mean())


def _least(places: Ints) -> float:
    """The least distance along an axis, of places no two of which share a line."""
    steps = np.concatenate([np.diff(np.unique(places[:, axis])) for axis in (0, 1)])
    return float(steps.min())
