"""Opening a feature store and reading from it."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError
from meddistill.features.agreement import AGREEMENT
from meddistill.features.files import FileEntry
from meddistill.features.format import (
    TABLES,
    TEACHERS,
    OutputManifest,
    StoreManifest,
    Table,
    TeacherManifest,
    load_manifest,
    manifest_content,
    parse_manifest,
    remedy,
)
from meddistill.features.outputs import Array, RaggedRows, StoredOutput
from meddistill.features.rows import Indices
from meddistill.features.shards import mapped
from meddistill.features.statistics import Statistics
from meddistill.features.tables import Tables
from meddistill.files import sha256_of
from meddistill.signals import TOWERS, Signal, Tower
from meddistill.teachers.card import TeacherCard

TABLE_OF: Final[Mapping[Signal, Table]] = {
    "image": "images",
    "text": "texts",
    "patches": "images",
    "text_tokens": "texts",
}


class FeatureStore:
    """A feature store, open for reading. Make it with `FeatureStore.open`.

    Tables and shards are read when they are first asked for; a shard's hash is checked then. Safe to use
    from several processes, also while `extract` adds teachers or rows: what is added later is seen by a
    store that is opened later.
    """

    def __init__(self, path: Path, manifest: StoreManifest, contents: Mapping[str, bytes]) -> None:
        self.path = path
        self.manifest = manifest
        # Parsed when they are asked for: thousands of shards a teacher would take most of an opening.
        self._contents = contents
        self._teachers: dict[str, TeacherManifest] = {}
        self._outputs: dict[tuple[str, Signal], StoredOutput] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store and check that every file it names is there and has its size.

        Raises
        ------
        StoreError
            If `path` is no store, a manifest is damaged, or a file is missing or has another size.
        """
        manifest = load_manifest(path, StoreManifest)
        contents = {name: manifest_content(path / TEACHERS / name) for name in manifest.teachers}
        tables = [piece for pieces in manifest.segments.values() for piece in pieces]
        wrong = wrong_sizes(path / TABLES, sizes_of(tables))
        for name, content in contents.items():
            wrong += wrong_sizes(path / TEACHERS / name, _named_sizes(path / TEACHERS / name, content))
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            msg = f"`{path}` must hold every file as its manifests name it; {wrong[0]}{more}. {remedy(path)}"
            raise StoreError(msg)
        return cls(path, manifest, contents)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The ids of the teachers in the store."""
        return self.manifest.teachers

    @property
    def views(self) -> int:
        """How many views of each image are stored."""
        return self.manifest.settings.views

    @cached_property
    def tables(self) -> Tables:
        """Images, texts and pairs."""
        return Tables(self.path, self.manifest)

    def card(self, teacher: str) -> TeacherCard:
        """A teacher's card, licence included."""
        return self._teacher(teacher).card

    def outputs(self, teacher: str) -> Mapping[Signal, OutputManifest]:
        """What is stored of a teacher: shapes, precision, shards."""
        return self._teacher(teacher).outputs

    def read(self, teacher: str, output: Signal, rows: Indices, *, views: Indices | None = None) -> Array:
        """Rows of an output, in the order asked: `[len(rows), (views,) *shape]`.

        With `views` one view of each row, `[len(rows), *shape]`. float16 and float32 come as they are
        stored (convert on the device), int8 as float32.
        """
        return self.output(teacher, output).read(rows, views=views)

    def read_ragged(self, teacher: str, output: Signal, rows: Indices) -> RaggedRows:
        """Rows of an output whose rows differ in length."""
        return self.output(teacher, output).read_ragged(rows)

    def output(self, teacher: str, output: Signal) -> StoredOutput:
        """The reader of one output."""
        stored = self._outputs.get((teacher, output))
        if stored is None:
            outputs = self.outputs(teacher)
            if output not in outputs:
                msg = (
                    f"`output` must be one that teacher {teacher!r} has in `{self.path}`: "
                    f"{', '.join(outputs)}; got {output!r}."
                )
                raise StoreError(msg)
            folder = self.path / TEACHERS / teacher
            stored = StoredOutput(folder, outputs[output], subject=f"{output} output of teacher {teacher!r}")
            self._outputs[teacher, output] = stored
        return stored

    def image_rows(self, keys: Sequence[str]) -> Indices:
        """The row of each image key; -1 where the store does not have the image."""
        return self.tables.image_rows(keys)

    def text_rows(self, keys: Sequence[str]) -> Indices:
        """The row of each text key; -1 where the store does not have the text."""
        return self.tables.text_rows(keys)

    def pairs_of(self, images: Sequence[str], texts: Sequence[str]) -> Indices:
        """`[n, 2]`: the rows of image and text keys, for `rows_of`; no texts are texts that are not there."""
        return np.stack([self.image_rows(images), self.text_rows(texts or ("",) * len(images))], axis=1)

    def by_pair(self, teacher: str) -> bool:
        """Whether a teacher has a row a pair of image and text, and none of either alone."""
        return self._teacher(teacher).by_pair

    def rows_of(self, teacher: str, tower: Tower, pairs: Indices) -> Indices:
        """The row of a tower's output for each of `pairs` `[n, 2]`, rows of images and texts.

        -1 where there is none: no image or text, or, of a teacher by pair, no such pair.
        """
        if self.by_pair(teacher):
            return self.tables.pair_rows(pairs)
        return pairs[:, TOWERS.index(tower)]

    def available(self, teacher: str, image_rows: Indices) -> NDArray[np.bool_]:
        """Whether a teacher is available for these images: its card covers their modality."""
        codes, names = self.tables.names("modality")
        return covered(self.card(teacher), names)[codes[image_rows]]

    def statistics(self, teacher: str) -> Mapping[Signal, Statistics]:
        """Exact statistics per output, of all rows.

        Raises StoreError while the teacher's extraction is not complete.
        """
        manifest = self._teacher(teacher)
        if manifest.statistics is None:
            raise StoreError(_incomplete(teacher, self.path))
        tensors = dict(mapped(self.path / TEACHERS / teacher / manifest.statistics.file))
        present = [output for output in manifest.outputs if f"{output}.count" in tensors]
        return {output: Statistics.of_tensors(tensors, output) for output in present}

    def agreement(self, teacher: str) -> NDArray[np.float32]:
        """The cosine of image (view 0) and text embedding of each pair, in the order of `tables.pairs`.

        Raises StoreError for a teacher that has not both in one space, or whose extraction is not complete.
        """
        manifest = self._teacher(teacher)
        if not manifest.has_agreement:
            msg = (
                f"teacher {teacher!r} must have image and text embeddings of one dim in `{self.path}`; it "
                f"has {', '.join(manifest.outputs)}. Leave it out of `agreement_quantile`."
            )
            raise StoreError(msg)
        piece = manifest.availability
        if piece is None or not covers_pairs(manifest, self.manifest):
            raise StoreError(_incomplete(teacher, self.path))
        path = self.path / TEACHERS / teacher / piece.file
        if sha256_of(path) != piece.sha256:
            msg = f"`{path}` must be as it was written; its hash differs. {remedy(self.path)}"
            raise StoreError(msg)
        return np.asarray(mapped(path)[AGREEMENT], dtype=np.float32)

    def files(self, teacher: str) -> list[FileEntry]:
        """Every file that a teacher's manifest names."""
        return files_of(self._teacher(teacher))

    def missing(self, teacher: str) -> Mapping[Signal, int]:
        """How many rows of each output are not there yet; empty when the teacher is complete."""
        gaps = {
            output: sum(
                stop - start for start, stop in each.missing(self.manifest.spans(table_of(output, each)))
            )
            for output, each in self.outputs(teacher).items()
        }
        return {output: rows for output, rows in gaps.items() if rows}

    def holds_all_of(self, teachers: Iterable[str]) -> bool:
        """Whether these teachers are in the store with every row and with what is said of all rows."""
        return all(name in self._contents and self._is_whole(name) for name in teachers)

    def _is_whole(self, teacher: str) -> bool:
        manifest = self._teacher(teacher)
        counted = manifest.statistics is not None
        compared = not manifest.has_agreement or covers_pairs(manifest, self.manifest)
        return counted and compared and not self.missing(teacher)

    def _teacher(self, teacher: str) -> TeacherManifest:
        manifest = self._teachers.get(teacher)
        if manifest is not None:
            return manifest
        if teacher not in self._contents:
            present = ", ".join(self.teachers) or "none"
            msg = (
                f"`teacher` must be in the store `{self.path}`, which has: {present}; got {teacher!r}. "
                "Add it with `meddistill features add`."
            )
            raise StoreError(msg)
        folder = self.path / TEACHERS / teacher
        self._teachers[teacher] = parse_manifest(folder, self._contents[teacher], TeacherManifest)
        return self._teachers[teacher]


def table_of(signal: Signal, output: OutputManifest) -> Table:
    """The table of which an output has the rows."""
    return "pairs" if output.by_pair else TABLE_OF[signal]


def covered(card: TeacherCard, modalities: Sequence[str]) -> NDArray[np.bool_]:
    """Which modalities a teacher knows.

    A card without modalities covers all. An unknown modality ("") counts as covered: nothing speaks
    against it, and a table without that column would otherwise leave such a teacher without a row.
    """
    if card.modalities is None:
        return np.ones(len(modalities), dtype=np.bool_)
    known = {*card.modalities, ""}
    return np.array([modality in known for modality in modalities], dtype=np.bool_)


def files_of(teacher: TeacherManifest) -> list[FileEntry]:
    """Every file that a teacher's manifest names."""
    shards: list[FileEntry] = [shard for output in teacher.outputs.values() for shard in output.shards]
    return [*shards, *(file for file in (teacher.statistics, teacher.availability) if file is not None)]


def covers_pairs(teacher: TeacherManifest, store: StoreManifest) -> bool:
    """Whether a teacher's agreement is there for every pair of the store."""
    return teacher.availability is not None and teacher.availability.stop == store.rows("pairs")


def sizes_of(files: Iterable[FileEntry]) -> dict[str, int]:
    """Name → bytes."""
    return {file.file: file.bytes for file in files}


def wrong_sizes(folder: Path, files: Mapping[str, int]) -> list[str]:
    """One line for each file (name → bytes) that is missing from `folder` or has another size."""
    sizes: dict[str, int] = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries}
    wrong = [name for name, expected in files.items() if sizes.get(name) != expected]
    return [_wrong(folder, name, files[name], sizes.get(name)) for name in wrong]


def _named_sizes(folder: Path, content: bytes) -> dict[str, int]:
    """What `sizes_of(files_of(...))` is of a teacher's manifest, without a model of every shard."""
    try:
        manifest = json.loads(content)
        files = [shard for output in manifest["outputs"].values() for shard in output["shards"]]
        files += [file for file in (manifest["statistics"], manifest["availability"]) if file is not None]
        return {file["file"]: file["bytes"] for file in files}
    except (KeyError, TypeError, AttributeError):
        return sizes_of(files_of(parse_manifest(folder, content, TeacherManifest)))


def _incomplete(teacher: str, path: Path) -> str:
    return f"teacher {teacher!r} must be complete in `{path}`; it is not. Extract again to go on."


def _wrong(folder: Path, name: str, expected: int, size: int | None) -> str:
    wrong = "is missing" if size is None else f"has {size} bytes, not {expected}"
    return f"`{folder / name}` {wrong}"
