"""One shard: rows of one output in a safetensors file whose data begin on a page of their own.

Tensors of a shard: `values`, then `scale` (int8) or `offsets` (ragged).

| layout | `values`               | second tensor                 |
|--------|------------------------|-------------------------------|
| plain  | `[rows, (views,) ...]` | none                          |
| int8   | `[rows, (views,) ...]` | `scale` float32 `[rows(, views)]` |
| ragged | `[sum of lengths, ...]` | `offsets` int64 `[rows + 1]`   |

The header is padded with spaces to one page of 4096 bytes, as the safetensors format allows. With a number
of rows that is a multiple of 4096, `values` also end on a page, so that neighbouring shards can be mapped
into one address range.
"""

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError, UserError
from meddistill.features.files import FileEntry, commit, part_of, place, seal, storing
from meddistill.file_kinds import unreadable

PAGE: Final = 4096
VALUES: Final = "values"
SCALE: Final = "scale"
OFFSETS: Final = "offsets"
_NAMES: Final[Mapping[str, str]] = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int8": "I8",
    "int64": "I64",
}
_TYPES: Final = {short: np.dtype(name) for name, short in _NAMES.items()}

Tensors = Mapping[str, NDArray[np.generic]]


def header(tensors: Mapping[str, tuple[np.dtype[np.generic], tuple[int, ...]]]) -> bytes:
    """The safetensors header of tensors that follow one another, padded to whole pages."""
    entries: dict[str, object] = {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        entries[name] = {
            "dtype": _NAMES[dtype.name],
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    length = -(-(8 + len(text)) // PAGE) * PAGE - 8
    return struct.pack("<Q", length) + text.ljust(length)


def locate(path: Path) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...], int]]:
    """Each tensor's dtype, shape and first byte in the file, from the header alone."""
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            entries = json.loads(handle.read(min(length, path.stat().st_size)))
        entries.pop("__metadata__", None)
        return {
            name: (_TYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
            for name, entry in entries.items()
        }
    except OSError as refusal:
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise UserError(msg) from refusal
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        msg = (
            f"`{path}` must be a readable safetensors file; got {error!r}. Run `meddistill features verify`."
        )
        raise StoreError(msg) from error


def mapped(path: Path) -> Tensors:
    """The tensors of a file as read-only memory maps; nothing is read yet."""
    return {
        name: np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
        if np.prod(shape)
        else np.empty(shape, dtype)
        for name, (dtype, shape, offset) in locate(path).items()
    }


def write_tensors(path: Path, tensors: Tensors) -> FileEntry:
    """Write a small safetensors file whole."""
    part = part_of(path)
    try:
        with storing(path), part.open("wb") as handle:
            handle.write(header({name: (each.dtype, each.shape) for name, each in tensors.items()}))
            for each in tensors.values():
                handle.write(np.ascontiguousarray(each).data)
        return commit(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class ShardDraft:
    """A shard being written, batch by batch in row order. Use it as a context manager.

    Leaving the block without `place`, by an exception for instance, deletes what was written.
    """

    def __init__(self, path: Path, *, shape: tuple[int, ...], dtype: str, ragged: bool = False) -> None:
        self._path = path
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._ragged = ragged
        self._rows = 0
        self._extent = 0
        self._scales: list[NDArray[np.float32]] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._handle = None
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = part_of(path).open("wb")
            self._handle.write(b" " * PAGE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with suppress(OSError):  # on a full disk, closing flushes and fails a second time
                self._handle.close()
            self._handle = None
        part_of(self._path).unlink(missing_ok=True)

    @property
    def rows(self) -> int:
        """How many rows were appended so far."""
        return self._rows

    def append(
        self,
        values: NDArray[np.generic],
        *,
        scale: NDArray[np.float32] | None = None,
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        """Add rows: `values` in the stored dtype, with their `scale` (int8) or `lengths` (ragged)."""
        if self._handle is None or values.dtype != self._dtype or values.shape[1:] != self._shape:
            msg = (
                f"`values` must be {self._dtype} rows of shape {self._shape} for an open shard; "
                f"got {values.dtype} {values.shape[1:]}. The output changed its dims between batches."
            )
            raise StoreError(msg)
        with storing(self._path):
            self._handle.write(np.ascontiguousarray(values).data)
        self._extent += values.shape[0]
        self._rows += values.shape[0] if lengths is None else lengths.shape[0]
        if scale is not None:
            self._scales.append(scale)
        if lengths is not None:
            self._lengths.append(lengths)

    def finish(self) -> FileEntry:
        """Complete the content; `place` gives it its name."""
        if self._handle is None:
            msg = f"`{self._path}` must be finished once; it was closed already. Open a new draft."
            raise StoreError(msg)
        trailing = self._trailing()
        layout = {VALUES: (self._dtype, (self._extent, *self._shape))}
        layout |= {name: (each.dtype, each.shape) for name, each in trailing.items()}
        with storing(self._path):
            for each in trailing.values():
                self._handle.write(each.data)
            self._handle.seek(0)
            self._handle.write(header(layout))
            self._handle.close()
        self._handle = None
        return seal(self._path)

    def place(self) -> None:
        """Give the finished file its name."""
        place(self._path)

    def _trailing(self) -> dict[str, NDArray[np.generic]]:
        if self._ragged:
            lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
            return {OFFSETS: np.cumsum(lengths)}
        if self._dtype == np.int8:
            return {SCALE: np.concatenate(self._scales)}
        return {}
