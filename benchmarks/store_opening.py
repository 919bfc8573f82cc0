"""Opening a feature store of three million pairs and nine teachers: a user waits for it."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.measure import Measurement, seconds
from meddistill.features.config import ExtractOptions
from meddistill.features.files import FileEntry, write_manifest
from meddistill.features.format import (
    TABLES,
    TEACHERS,
    OutputManifest,
    Piece,
    Settings,
    Span,
    StoreManifest,
    Table,
    TeacherManifest,
)
from meddistill.features.reader import FeatureStore
from meddistill.features.shards import PAGE
from meddistill.licences import KNOWN
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

LIMIT: Final = 0.2
ROWS, TEACHER_COUNT, DIM = 3_000_000, 9, 512
ROUNDS: Final = 5
_NO_HASH: Final = "0" * 64
_OUTPUTS: Final[tuple[Signal, ...]] = ("image", "text")
_TABLES: Final[tuple[Table, ...]] = ("images", "texts", "pairs")
_KEY_BYTES: Final = 40


def run() -> list[Measurement]:
    """The best of a few openings, each with every manifest read and every file's size looked at.

    Tables and shards are read when they are first asked for, which is not in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _hollow_store(Path(folder))
        store = FeatureStore.open(Path(folder))
        if store.missing("teacher_0") or store.manifest.rows("images") != ROWS:
            msg = "the store must be complete."
            raise ValueError(msg)
        best = min(seconds(lambda: FeatureStore.open(Path(folder))) for _ in range(ROUNDS))
    what = f"store: opening {ROWS:,} rows of {TEACHER_COUNT} teachers, two towers, {files:,} files"
    return [Measurement(what=what, value=f"{best:.3f} s", limit=f"< {LIMIT} s", holds=best < LIMIT)]


def _hollow_store(folder: Path) -> int:
    """A store whose files have their names and sizes but no content on the disk; returns their number."""
    options = ExtractOptions()
    spans = [(start, min(start + options.shard_rows, ROWS)) for start in range(0, ROWS, options.shard_rows)]
    teachers = {f"teacher_{number}": _teacher(number, spans) for number in range(TEACHER_COUNT)}
    segments = {table: (_piece(f"{table}-0000.parquet", ROWS * _KEY_BYTES, (0, ROWS)),) for table in _TABLES}
    settings = Settings(decode={})
    manifest = StoreManifest(
        settings=settings, shard_rows=options.shard_rows, segments=segments, teachers=tuple(teachers)
    )
    files = [_sparse(folder / TABLES, pieces) for pieces in segments.values()]
    write_manifest(folder, manifest.model_dump_json(indent=1))
    for name, teacher in teachers.items():
        files += [_sparse(folder / TEACHERS / name, output.shards) for output in teacher.outputs.values()]
        write_manifest(folder / TEACHERS / name, teacher.model_dump_json(indent=1))
    return sum(files)


def _teacher(number: int, spans: list[Span]) -> TeacherManifest:
    card = TeacherCard(
        id=f"teacher_{number}",
        kind="python",
        source="hollow",
        library="benchmarks",
        weights_sha256=_NO_HASH,
        licence=KNOWN["MIT"],
        input=None,
        dims={"image": DIM, "text": DIM},
        signals=frozenset({"image", "text"}),
        parameters=1,
    )
    row = DIM * np.dtype(np.float16).itemsize
    outputs = {
        name: OutputManifest(
            shape=(DIM,),
            dtype="float16",
            shards=tuple(
                _piece(f"{name}-{start:08d}.safetensors", PAGE + (stop - start) * row, (start, stop))
                for start, stop in spans
            ),
        )
        for name in _OUTPUTS
    }
    return TeacherManifest(card=card, outputs=outputs)


def _piece(name: str, size: int, span: Span) -> Piece:
    entry = FileEntry(file=name, bytes=size, sha256=_NO_HASH)
    return Piece(**entry.model_dump(), start=span[0], stop=span[1])


def _sparse(folder: Path, pieces: tuple[Piece, ...]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        with (folder / piece.file).open("wb") as handle:
            handle.truncate(piece.bytes)
    return len(pieces)
