"""How fields with an entry a row stand in a dump of predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Column:
    """The column `name`; `write` makes it of the field, `read` the field of it again."""

    name: str
    write: Callable[[Any], pa.Array]
    read: Callable[[pa.ChunkedArray], Any]


Layout = Mapping[str, Column]
FactReaders = Mapping[str, Callable[[Any], Any]]


def whole_numbers(name: str) -> Column:
    """An array of integers."""
    return Column(name, partial(pa.array, type=pa.int64()), pa.ChunkedArray.to_numpy)


def decimals(name: str) -> Column:
    """An array of float64."""
    return Column(name, partial(pa.array, type=pa.float64()), pa.ChunkedArray.to_numpy)


def flags(name: str) -> Column:
    """An array of truth values."""
    return Column(name, partial(pa.array, type=pa.bool_()), lambda column: np.array(column.to_pylist(), bool))


def texts(name: str) -> Column:
    """A tuple of strings that repeat."""
    return Column(name, words, lambda column: tuple(column.to_pylist()))


def vectors(name: str, *, stored: DTypeLike = np.float64, held: DTypeLike = np.float64) -> Column:
    """A matrix, written as a list a row."""
    return Column(name, lambda rows: lists(rows.astype(stored)), lambda column: matrix(column).astype(held))


def words(values: Sequence[str]) -> pa.Array:
    """A column of strings that repeat."""
    return pa.array(values, pa.string()).dictionary_encode()


def lists(rows: NDArray[Any]) -> pa.Array:
    """A column of lists of equal length, the rows of a matrix."""
    flat = pa.array(np.ascontiguousarray(rows).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])


def matrix(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of lists of equal length as a matrix again."""
    flat: NDArray[Any] = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), column.type.list_size)
