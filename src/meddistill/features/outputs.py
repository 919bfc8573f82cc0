"""One output of one teacher: rows out of its shards, each shard checked when it is first touched."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError
from meddistill.features.encoding import decoded
from meddistill.features.format import OutputManifest, Piece, remedy
from meddistill.features.mapping import MappedPiece, MappedRows
from meddistill.features.rows import Indices
from meddistill.features.shards import OFFSETS, SCALE, VALUES, locate, mapped
from meddistill.files import sha256_of

Array = NDArray[np.generic]


@dataclass(frozen=True)
class RaggedRows:
    """Rows of different lengths: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: Array
    offsets: Indices


class StoredOutput:
    """Reads one output. `subject` names it in messages."""

    def __init__(self, folder: Path, manifest: OutputManifest, *, subject: str) -> None:
        self._folder = folder
        self._manifest = manifest
        self._subject = subject
        self._starts = np.array([shard.start for shard in manifest.shards], dtype=np.int64)
        self._unchecked = np.ones(len(manifest.shards), dtype=np.bool_)

    @property
    def rows(self) -> int:
        """How many rows there are from row 0 on without a gap."""
        expected = 0
        for shard in self._manifest.shards:
            if shard.start != expected:
                break
            expected = shard.stop
        return expected

    def read(self, rows: Indices, *, views: Indices | None = None) -> Array:
        """`[len(rows), (views,) *shape]`, or `[len(rows), *shape]` of one view of each row.

        float16 and float32 come as stored, int8 as float32.
        """
        self._require(rows, ragged=False)
        return decoded(self._take(self._values, rows, views), self._scale_of(rows, views))

    def read_ragged(self, rows: Indices) -> RaggedRows:
        """Rows of an output whose rows differ in length."""
        self._require(rows, ragged=True)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        parts = []
        for row, shard in zip(rows.tolist(), shard_of.tolist(), strict=True):
            tensors = self._tensors(shard)
            start, stop = tensors[OFFSETS][row - self._starts[shard] :][:2]
            parts.append(np.asarray(tensors[VALUES][start:stop]))
        lengths = np.array([0, *(len(part) for part in parts)], dtype=np.int64)
        empty = np.empty((0, *self._manifest.row_shape), self._manifest.dtype)
        return RaggedRows(np.concatenate([empty, *parts]), np.cumsum(lengths))

    def part(self, shard: Piece) -> Array:
        """All rows of one shard, checked; for passes over a whole output."""
        self._check([self._manifest.shards.index(shard)])
        tensors = mapped(self._folder / shard.file)
        return decoded(tensors[VALUES], np.asarray(tensors[SCALE]) if SCALE in tensors else None)

    @cached_property
    def _values(self) -> MappedRows:
        pieces = [
            MappedPiece(path, shard.stop - shard.start, locate(path)[VALUES][2])
            for shard in self._manifest.shards
            for path in [self._folder / shard.file]
        ]
        return MappedRows(pieces, shape=self._manifest.row_shape, dtype=self._manifest.dtype)

    @cached_property
    def _scales(self) -> NDArray[np.float32] | None:
        if self._manifest.dtype != "int8" or self._manifest.ragged:
            return None
        return np.concatenate([mapped(self._folder / shard.file)[SCALE] for shard in self._manifest.shards])

    def _take(self, source: MappedRows, rows: Indices, views: Indices | None) -> Array:
        if views is None or self._manifest.views == 1:
            return source.take(rows)
        return source.take_views(rows, views)

    def _scale_of(self, rows: Indices, views: Indices | None) -> NDArray[np.float32] | None:
        if self._scales is None:
            return None
        return self._scales[rows] if views is None or self._manifest.views == 1 else self._scales[rows, views]

    def _tensors(self, shard: int) -> dict[str, Array]:
        return dict(mapped(self._folder / self._manifest.shards[shard].file))

    def _require(self, rows: Indices, *, ragged: bool) -> None:
        if ragged != self._manifest.ragged:
            reader, why = ("read_ragged", "vary") if self._manifest.ragged else ("read", "are equal")
            msg = f"{self._subject} must be read with `{reader}`: the lengths of its rows {why}."
            raise StoreError(msg)
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= self._rows:
            msg = (
                f"{self._subject} must be read at rows 0 to {self._rows - 1}; got {rows.min()} to "
                f"{rows.max()}. If an extraction was interrupted, give its command again."
            )
            raise StoreError(msg)
        if self._unchecked.any():
            touched = np.unique(np.searchsorted(self._starts, rows, side="right") - 1)
            self._check(touched[self._unchecked[touched]].tolist())

    @cached_property
    def _rows(self) -> int:
        return self.rows

    def _check(self, shards: list[int]) -> None:
        for index in shards:
            shard = self._manifest.shards[index]
            if not self._unchecked[index]:
                continue
            path = self._folder / shard.file
            if sha256_of(path) != shard.sha256:
                msg = (
                    f"`{path}` must be as it was written; its hash differs. "
                    f"{remedy(self._folder.parent.parent)}"
                )
                raise StoreError(msg)
            self._unchecked[index] = False
