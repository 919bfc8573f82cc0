"""The tables of a store: which images, which texts, and which belong together. No text, no patient."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from meddistill.data.arrow_files import parquet_file
from meddistill.errors import StoreError
from meddistill.features.files import commit, copy_of, part_of, storing, write_whole
from meddistill.features.format import TABLES, Piece, StoreManifest, Table, repair_of
from meddistill.features.rows import DistinctRows, Indices
from meddistill.files import sha256_of

ABSENT: Final = -1
_KEY: Final = pa.binary(32)
_NAMES: Final = pa.dictionary(pa.int32(), pa.string())
SCHEMAS: Final[dict[Table, pa.Schema]] = {
    "images": pa.schema([("image_key", _KEY), ("modality", _NAMES)]),
    "texts": pa.schema([("text_key", _KEY), ("role", _NAMES)]),
    "pairs": pa.schema([("image_row", pa.int64()), ("text_row", pa.int64())]),
}


class Tables:
    """The tables of a store, read when they are first asked for and checked by their hashes then."""

    def __init__(self, path: Path, manifest: StoreManifest) -> None:
        self._folder = path / TABLES
        self._manifest = manifest

    @cached_property
    def images(self) -> pa.Table:
        """`image_key`, `modality`."""
        return self._read("images")

    @cached_property
    def texts(self) -> pa.Table:
        """`text_key`, `role`."""
        return self._read("texts")

    @cached_property
    def pairs(self) -> Indices:
        """`[pairs, 2]`: image row and text row."""
        table = self._read("pairs")
        return np.stack([table.column(name).to_numpy() for name in ("image_row", "text_row")], axis=1)

    @cached_property
    def shown(self) -> Indices:
        """`[n, 2]`: the pairs, then images that stand in none, each beside ABSENT."""
        alone = np.setdiff1d(np.arange(len(self.images)), self.pairs[:, 0])
        return np.concatenate([self.pairs, np.stack([alone, np.full(len(alone), ABSENT)], axis=1)])

    def image_rows(self, keys: Sequence[str]) -> Indices:
        """The row of each image; ABSENT (-1) where the store does not have it."""
        return _rows_of(keys, self.images.column("image_key"))

    def text_rows(self, keys: Sequence[str]) -> Indices:
        """The row of each text; ABSENT (-1) where the store does not have it, and for "", which is no key."""
        return _rows_of(keys, self.texts.column("text_key"))

    def pair_rows(self, pairs: Indices) -> Indices:
        """The place of each of `pairs` `[n, 2]` among the pairs; ABSENT for what is no pair of the store."""
        width = max(1, len(self.texts))
        known = self.pairs @ np.array([width, 1])
        order = np.argsort(known, kind="stable")
        asked = pairs @ np.array([width, 1])
        if not len(order):
            return np.full(len(pairs), ABSENT, dtype=np.int64)
        rows: Indices = order[np.searchsorted(known[order], asked).clip(max=len(known) - 1)]
        there = (pairs >= 0).all(axis=1) & (known[rows] == asked)
        return np.where(there, rows, ABSENT)

    def names(self, column: Literal["modality", "role"]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """A column of few names: per row the index of its name, and the names."""
        table = self.images if column == "modality" else self.texts
        whole = table.column(column).unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], _NAMES)
        return whole.indices.to_numpy(), tuple(whole.dictionary.to_pylist())

    def _read(self, table: Table) -> pa.Table:
        pieces = [self._piece(piece) for piece in self._manifest.segments[table]]
        return pa.concat_tables(pieces) if pieces else SCHEMAS[table].empty_table()

    def _piece(self, piece: Piece) -> pa.Table:
        path = self._folder / piece.file
        if sha256_of(path) != piece.sha256:
            msg = (
                f"`{path}` must be as it was written; its hash differs. "
                f"{repair_of(self._folder.parent)} restores it from its copy."
            )
            raise StoreError(msg)
        return parquet_file(path).read()


def append_segments(path: Path, manifest: StoreManifest, rows: DistinctRows) -> StoreManifest:
    """Write what of `rows` the store lacks as new segments; return the manifest that names them.

    The caller writes that manifest; until then the new files do not exist.
    """
    tables = Tables(path, manifest)
    image_rows, new_images = _numbered(tables.image_rows(rows.image_keys), manifest.rows("images"))
    text_rows, new_texts = _numbered(tables.text_rows(rows.text_keys), manifest.rows("texts"))
    pairs = np.stack([image_rows[rows.pairs[:, 0]], text_rows[rows.pairs[:, 1]]], axis=1)
    width = max(1, manifest.rows("texts") + len(new_texts))
    known = np.isin(pairs @ np.array([width, 1]), tables.pairs @ np.array([width, 1]))
    columns: dict[Table, list[pa.Array]] = {
        "images": [_binary(rows.image_keys, new_images), _named(rows.modalities, new_images)],
        "texts": [_binary(rows.text_keys, new_texts), _named(rows.roles, new_texts)],
        "pairs": [pa.array(pairs[~known, 0]), pa.array(pairs[~known, 1])],
    }
    segments = dict(manifest.segments)
    for table, arrays in columns.items():
        if len(arrays[0]):
            content = pa.table(arrays, schema=SCHEMAS[table])
            segments[table] = (*segments[table], _write(path / TABLES, manifest, table, content))
    return manifest.model_copy(update={"segments": segments})


def _numbered(rows: Indices, existing: int) -> tuple[Indices, Indices]:
    """Number the absent rows from `existing` on; return all numbers, and which positions are new."""
    new = np.flatnonzero(rows == ABSENT)
    numbered = rows.copy()
    numbered[new] = existing + np.arange(len(new))
    return numbered, new


def _write(folder: Path, manifest: StoreManifest, table: Table, content: pa.Table) -> Piece:
    path = folder / f"{table}-{len(manifest.segments[table]):04d}.parquet"
    start = manifest.rows(table)
    part = part_of(path)
    try:
        with storing(path):
            folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                pq.write_table(content, file, compression="zstd")
        entry = commit(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    write_whole(folder / copy_of(entry).file, path.read_bytes())
    return Piece(**entry.model_dump(), start=start, stop=start + content.num_rows)


def _rows_of(keys: Sequence[str], column: pa.ChunkedArray) -> Indices:
    asked = pa.array([bytes.fromhex(key) if key else None for key in keys], _KEY)
    return pc.fill_null(pc.index_in(asked, value_set=column), ABSENT).to_numpy().astype(np.int64)


def _binary(keys: Sequence[str], chosen: Indices) -> pa.Array:
    return pa.array([bytes.fromhex(keys[each]) for each in chosen], _KEY)


def _named(names: Sequence[str], chosen: Indices) -> pa.Array:
    return pa.array([names[each] for each in chosen], pa.string()).dictionary_encode().cast(_NAMES)
