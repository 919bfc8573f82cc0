"""Rows of many shards as few arrays: neighbouring files are mapped into one address range.

A gather over a hundred shards costs ten times that over one file when every shard is asked in turn. Shards
whose data begin and end on pages can stand side by side in memory, and then one gather serves them all.
"""

import ctypes
import errno
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError
from meddistill.features.rows import Indices

_MAP_FIXED: Final = 0x10  # the same on Linux, macOS and the BSDs; Python's mmap module does not name it
_NOTHING_ALLOWED: Final = 0
_FAILED: Final = ctypes.c_void_p(-1).value

Array = NDArray[np.generic]


@dataclass(frozen=True)
class MappedPiece:
    """Rows of one file: their number and the byte where they begin."""

    path: Path
    rows: int
    offset: int


class MappedRows:
    """`[rows, *shape]` over the pieces of one output, read only."""

    def __init__(self, pieces: Sequence[MappedPiece], *, shape: tuple[int, ...], dtype: str) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        runs = _runs([piece for piece in pieces if piece.rows], self._row_bytes)
        self._regions = [_Region(run, self._row_bytes) for run in runs]
        counts = [sum(piece.rows for piece in run) for run in runs]
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        self._arrays = [
            region.bytes.view(self._dtype).reshape(count, *shape)
            for region, count in zip(self._regions, counts, strict=True)
        ]

    def take(self, rows: Indices) -> Array:
        """A copy of these rows, all of which must exist."""
        if len(self._arrays) == 1:
            return np.take(self._arrays[0], rows, axis=0)
        return self._gather(rows)

    def take_views(self, rows: Indices, views: Indices) -> Array:
        """A copy of one view of each row, where the first axis of a row's shape counts views."""
        if len(self._arrays) == 1:
            return self._arrays[0][rows, views]
        return self._gather(rows)[np.arange(len(rows)), views]

    def span(self, start: int, stop: int) -> Array:
        """Rows `start` to `stop`, without a copy where they lie in one range; valid while this object is."""
        region = int(np.searchsorted(self._starts, start, side="right")) - 1
        if stop <= self._starts[region + 1]:
            return self._arrays[region][start - self._starts[region] : stop - self._starts[region]]
        return self._gather(np.arange(start, stop))

    def _gather(self, rows: Indices) -> Array:
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        cuts = np.searchsorted(ascending, self._starts)
        values = np.empty((len(rows), *self._shape), self._dtype)
        for region in np.flatnonzero(np.diff(cuts)):
            part = slice(cuts[region], cuts[region + 1])
            values[part] = self._arrays[region][ascending[part] - self._starts[region]]
        result = np.empty_like(values)
        result[order] = values
        return result


def _runs(pieces: Sequence[MappedPiece], row_bytes: int) -> list[list[MappedPiece]]:
    """Pieces that can be mapped side by side: all begin on a page, all but the last of a run end on one."""
    page = mmap.ALLOCATIONGRANULARITY
    runs: list[list[MappedPiece]] = []
    open_run = False
    for piece in pieces:
        aligned = piece.offset % page == 0
        if open_run and aligned:
            runs[-1].append(piece)
        else:
            runs.append([piece])
        open_run = aligned and piece.rows * row_bytes % page == 0
    return runs


class _Region:
    """The bytes of a run of files as one read-only array, valid as long as this object lives."""

    def __init__(self, run: Sequence[MappedPiece], row_bytes: int) -> None:
        size = sum(piece.rows for piece in run) * row_bytes
        if len(run) == 1:
            offset = run[0].offset
            mapped = np.memmap(run[0].path, dtype=np.uint8, mode="r", offset=offset, shape=(size,))
            self.bytes = mapped.view(np.ndarray)
            return
        address = _map(None, size, _NOTHING_ALLOWED, kind=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        weakref.finalize(self, _LIBC.munmap, address, size)
        place = address
        for piece in run:
            length = piece.rows * row_bytes
            with piece.path.open("rb") as handle:
                shared = mmap.MAP_SHARED | _MAP_FIXED
                _map(place, length, mmap.PROT_READ, kind=shared, file=handle.fileno(), offset=piece.offset)
            place += length
        buffer = memoryview((ctypes.c_char * size).from_address(address)).cast("B")
        self.bytes = np.frombuffer(buffer, dtype=np.uint8)
        self.bytes.flags.writeable = False


_FEWER = (
    "A process may hold vm.max_map_count maps, one a shard: raise it, or extract with more `features: "
    "{shard_rows}`."
)


def _map(address: int | None, size: int, allowed: int, *, kind: int, file: int = -1, offset: int = 0) -> int:
    mapped = _LIBC.mmap(address, size, allowed, kind, file, offset)
    if mapped == _FAILED:
        number = ctypes.get_errno()
        do = _FEWER if number == errno.ENOMEM else "Mend that, or copy the store to a disk of this machine."
        msg = f"the system must map the shards of the store; it did not: {os.strerror(number)}. {do}"
        raise StoreError(msg)
    return int(mapped)


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


_LIBC: Final = _load()
