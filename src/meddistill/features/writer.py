"""Writing a feature store: one writer at a time, every file complete before a manifest names it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from meddistill.errors import StoreError
from meddistill.features.agreement import AGREEMENT, agreement_of
from meddistill.features.config import ExtractOptions
from meddistill.features.files import (
    LOCK,
    MANIFEST,
    MANIFEST_COPY,
    FileEntry,
    copy_of,
    locked,
    mend_copy,
    remove_leftovers,
    storing,
    write_manifest,
)
from meddistill.features.format import (
    AVAILABILITY,
    STATISTICS,
    TABLES,
    TEACHERS,
    UNSUMMARISED,
    Output,
    OutputManifest,
    Piece,
    Settings,
    Span,
    StoreManifest,
    TeacherManifest,
    load_manifest,
)
from meddistill.features.outputs import Array, StoredOutput
from meddistill.features.reader import REMEDY, TABLE_OF, covers_pairs, files_of, wrong_sizes
from meddistill.features.rows import DistinctRows
from meddistill.features.shards import ShardDraft, write_tensors
from meddistill.features.statistics import statistics_of
from meddistill.features.tables import Tables, append_segments
from meddistill.teachers.card import TeacherCard

Layouts = dict[Output, OutputManifest]

_TOWERS: Final[tuple[Output, Output]] = ("image", "text")
_ELSEWHERE: Final = "Extract to another folder, or delete this store if it is no longer needed."


class StoreWriter:
    """A store held for writing. Make it with `StoreWriter.open`."""

    def __init__(self, path: Path, manifest: StoreManifest) -> None:
        self.path = path
        self._manifest = manifest
        self._teachers = {
            name: load_manifest(path / TEACHERS / name, TeacherManifest) for name in manifest.teachers
        }

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: Settings, options: ExtractOptions) -> Iterator[Self]:
        """Hold the store at `path` for writing, a new one if there is none, and clean up what broke off.

        Raises
        ------
        StoreError
            If another writer is at work, or the store there was made with other settings or is damaged.
        """
        with locked(path):
            manifest = _load_or_new(path, settings, options.shard_rows)
            _require_whole_batches(manifest.shard_rows, options.batch_size)
            writer = cls(path, manifest)
            writer._clean()
            yield writer

    @property
    def manifest(self) -> StoreManifest:
        """The store's manifest as it is on disk now."""
        return self._manifest

    def append_rows(self, rows: DistinctRows) -> None:
        """Add the images, texts and pairs that the store does not have yet."""
        manifest = append_segments(self.path, self._manifest, rows)
        if manifest != self._manifest or not (self.path / MANIFEST).is_file():
            self._write(manifest)

    def require_same(self, teacher: str, card: TeacherCard, outputs: Layouts) -> None:
        """Raise StoreError if the store has other features under this id.

        Other weights, preprocessing, tokenizer or layout; the message names each difference.
        """
        known = self._teachers.get(teacher)
        differences = [] if known is None else _teacher_differences(known, card, outputs)
        if differences:
            lines = "\n  ".join([*differences, _ELSEWHERE])
            msg = f"teacher {teacher!r} must be the one that made `{self.path}`; it differs:\n  {lines}"
            raise StoreError(msg)

    def admit(self, teacher: str, card: TeacherCard, outputs: Layouts) -> None:
        """Enter a teacher with the layouts of its outputs, or go on with one that `require_same` passed."""
        known = self._teachers.get(teacher)
        if known is None:
            folder = self.path / TEACHERS / teacher
            with storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder, keep=frozenset())
            self._enter(teacher, TeacherManifest(card=card, outputs=outputs))
            self._write(self._manifest.model_copy(update={"teachers": (*self._manifest.teachers, teacher)}))
            return
        update = {"card": card, "outputs": {**outputs, **known.outputs}}
        merged = known.model_copy(update=update)
        if merged != known:
            self._enter(teacher, merged)

    def missing(self, teacher: str, output: Output) -> list[Span]:
        """The spans of an output that have no shard yet, in row order."""
        manifest = self._teachers[teacher].outputs.get(output)
        return [] if manifest is None else manifest.missing(self._manifest.spans(TABLE_OF[output]))

    def draft(self, teacher: str, output: Output, span: Span) -> ShardDraft:
        """Begin the shard of a span."""
        layout = self._teachers[teacher].outputs[output]
        path = self.path / TEACHERS / teacher / f"{output}-{span[0]:08d}.safetensors"
        return ShardDraft(path, shape=layout.row_shape, dtype=layout.dtype, ragged=layout.ragged)

    def enter(self, teacher: str, output: Output, span: Span, draft: ShardDraft) -> None:
        """Complete a shard and name it in the teacher's manifest."""
        if draft.rows != span[1] - span[0]:
            msg = f"a shard must hold rows {span[0]} to {span[1]}; got {draft.rows} rows."
            raise StoreError(msg)
        shard = Piece(**draft.finish().model_dump(), start=span[0], stop=span[1])
        manifest = self._teachers[teacher]
        outputs = {**manifest.outputs, output: manifest.outputs[output].with_shard(shard)}
        self._enter(teacher, manifest.model_copy(update={"outputs": outputs, **UNSUMMARISED}))

    def summarise(self, teacher: str) -> None:
        """Compute what all rows of a teacher tell, once they are there: its statistics and its agreement."""
        if any(self.missing(teacher, output) for output in self._teachers[teacher].outputs):
            return
        if self._teachers[teacher].statistics is None:
            self._count(teacher)
        manifest = self._teachers[teacher]
        if manifest.has_agreement and not covers_pairs(manifest, self._manifest):
            self._compare(teacher)

    def _count(self, teacher: str) -> None:
        """Statistics, shard by shard in row order."""
        folder, manifest = self.path / TEACHERS / teacher, self._teachers[teacher]
        tensors: dict[str, Array] = {}
        for name, output in manifest.outputs.items():
            if output.shards:
                reader = StoredOutput(folder, output, subject=f"{name} output of teacher {teacher!r}")
                parts = (reader.part(shard) for shard in output.shards)
                tensors |= statistics_of(parts, output.shape[-1]).tensors(name)
        entry = write_tensors(folder / STATISTICS, tensors)
        self._enter(teacher, manifest.model_copy(update={"statistics": entry}))

    def _compare(self, teacher: str) -> None:
        """The agreement of image and text, pair by pair in the order of the table."""
        folder, manifest = self.path / TEACHERS / teacher, self._teachers[teacher]
        image, text = (
            StoredOutput(folder, manifest.outputs[name], subject=f"{name} output of teacher {teacher!r}")
            for name in _TOWERS
        )
        found = agreement_of(image, text, Tables(self.path, self._manifest).pairs)
        entry = write_tensors(folder / AVAILABILITY, {AGREEMENT: found})
        piece = Piece(**entry.model_dump(), start=0, stop=len(found))
        self._enter(teacher, manifest.model_copy(update={"availability": piece}))

    def _enter(self, teacher: str, manifest: TeacherManifest) -> None:
        write_manifest(self.path / TEACHERS / teacher, manifest.model_dump_json(indent=1))
        self._teachers[teacher] = manifest

    def _write(self, manifest: StoreManifest) -> None:
        write_manifest(self.path, manifest.model_dump_json(indent=1))
        self._manifest = manifest

    def _clean(self) -> None:
        pieces = [piece for pieces in self._manifest.segments.values() for piece in pieces]
        _require_files(self.path / TABLES, pieces)
        mend_copy(self.path)
        remove_leftovers(self.path, keep=frozenset())
        remove_leftovers(self.path / TABLES, keep=_names(pieces) | _names(map(copy_of, pieces)))
        for name, teacher in self._teachers.items():
            folder = self.path / TEACHERS / name
            mend_copy(folder)
            _require_files(folder, files_of(teacher))
            remove_leftovers(folder, keep=_names(files_of(teacher)))


def _load_or_new(path: Path, settings: Settings, shard_rows: int) -> StoreManifest:
    if not any((path / name).exists() for name in (MANIFEST, MANIFEST_COPY, TEACHERS)):
        _require_empty(path)
        return StoreManifest(settings=settings, shard_rows=shard_rows)
    manifest = load_manifest(path, StoreManifest)
    differences = manifest.settings.difference(settings)
    if differences:
        lines = "\n  ".join([*differences, _ELSEWHERE])
        msg = f"`{path}` must be a store of the same settings; it differs:\n  {lines}"
        raise StoreError(msg)
    return manifest


def _require_empty(path: Path) -> None:
    foreign = [
        each.name for each in path.iterdir() if each.name not in (LOCK, TABLES) and each.suffix != ".part"
    ]
    if foreign:
        msg = (
            f"`{path}` must be a feature store or an empty folder; it holds {min(foreign)!r}. Choose another."
        )
        raise StoreError(msg)


def _require_whole_batches(shard_rows: int, batch_size: int) -> None:
    if shard_rows % batch_size:
        msg = (
            f"`batch_size` must divide the {shard_rows} rows of this store's shards; got {batch_size}. "
            "Batches then end with shards and a resumed run gives the same bits."
        )
        raise StoreError(msg)


def _teacher_differences(known: TeacherManifest, card: TeacherCard, outputs: Layouts) -> list[str]:
    lines = known.card.difference(card)
    for name, asked in outputs.items():
        stored = known.outputs.get(name)
        if stored is not None and stored.layout() != asked.layout():
            there, here = stored.layout(), asked.layout()
            lines += [f"{name}.{key}: {there[key]} → {here[key]}" for key in there if there[key] != here[key]]
    return lines


def _require_files(folder: Path, files: Iterable[FileEntry]) -> None:
    wrong = wrong_sizes(folder, list(files))
    if wrong:
        msg = f"a store must hold its files whole to be continued; {wrong[0]}. {REMEDY}"
        raise StoreError(msg)


def _names(files: Iterable[FileEntry]) -> frozenset[str]:
    return frozenset(file.file for file in files)
