"""Writing a feature store: every file is complete before a manifest names it, however many write."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from meddistill.errors import StoreError
from meddistill.features.agreement import AGREEMENT, agreement_of
from meddistill.features.config import ExtractOptions
from meddistill.features.files import (
    MANIFEST,
    MANIFEST_COPY,
    FileEntry,
    copy_of,
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
    UNSUMMARIZED,
    OutputManifest,
    Piece,
    Settings,
    Span,
    StoreManifest,
    Table,
    TeacherManifest,
    load_manifest,
    remedy,
)
from meddistill.features.outputs import Array, StoredOutput
from meddistill.features.reader import covers_pairs, files_of, sizes_of, table_of, wrong_sizes
from meddistill.features.rows import DistinctRows
from meddistill.features.shards import ShardDraft, write_tensors
from meddistill.features.statistics import statistics_of
from meddistill.features.tables import Tables, append_segments
from meddistill.features.workers import POLL, WORKERS, Workers
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

Layouts = dict[Signal, OutputManifest]
# A teacher, and one of the signals that it outputs.
OutputKey = tuple[str, Signal]

_ELSEWHERE: Final = "Extract to another folder, or delete this store if it is no longer needed."


class StoreWriter:
    """A store that this process writes to, maybe among others. Make it with `StoreWriter.open`.

    Manifests change under the lock of `workers` alone, and are read again before they do. `manifest` is the
    store's as this writer left it: rows that others add later are theirs to fill.
    """

    def __init__(self, path: Path, workers: Workers, settings: Settings, shard_rows: int) -> None:
        self.path = path
        self.workers = workers
        self._settings = settings
        self._shard_rows = shard_rows
        self._manifest = self._load()

    @classmethod
    @contextmanager
    def open(cls, path: Path, settings: Settings, options: ExtractOptions) -> Iterator[Self]:
        """Come to the store at `path`, a new one if there is none, and clean up what broke off.

        Raises
        ------
        StoreError
            If it is being repaired, was made with other settings, or is damaged.
        """
        with Workers.join(path) as workers:
            if not workers.admit(alone=False):
                msg = f"`{path}` must not be under repair while it is written to. Wait until that is done."
                raise StoreError(msg)
            with workers.lock():
                writer = cls(path, workers, settings, options.shard_rows)
                _require_whole_batches(writer.manifest.shard_rows, options.batch_size)
                writer._clean()
            yield writer
            with workers.lock():
                workers.sweep()
                writer._clean()

    @property
    def manifest(self) -> StoreManifest:
        """The store's manifest as it is on disk now."""
        return self._manifest

    def begin(self, rows: DistinctRows, teachers: Mapping[str, tuple[TeacherCard, Layouts]]) -> None:
        """Add the rows and the teachers that the store does not have yet; one process does, others find them.

        Raises StoreError if the store has other features under a teacher's id: other weights, preprocessing,
        tokenizer or layout. The message names each difference, and nothing has been added then.
        """
        with self.workers.lock():
            self._manifest = self._load()
            for name, (card, outputs) in teachers.items():
                self._require_same(name, card, outputs)
            manifest = append_segments(self.path, self._manifest, rows)
            if manifest != self._manifest or not (self.path / MANIFEST).is_file():
                self._write(manifest)
            for name, (card, outputs) in teachers.items():
                self._admit(name, card, outputs)

    def require_same(self, teachers: Mapping[str, tuple[TeacherCard, Layouts]]) -> None:
        """Raise StoreError as `begin` does."""
        for name, (card, outputs) in teachers.items():
            self._require_same(name, card, outputs)

    def replace(self, teacher: str, card: TeacherCard, outputs: Layouts) -> None:
        """Enter a derived teacher; one of the same id that was derived otherwise goes."""
        with self.workers.lock():
            self._manifest = self._load()
            if teacher in self._manifest.teachers:
                if not _teacher_differences(self._teacher(teacher), card, outputs):
                    return
                self._remove(teacher)
            self._admit(teacher, card, outputs)

    def remove(self, teacher: str) -> None:
        """Take a derived teacher out, if it is there."""
        with self.workers.lock():
            self._manifest = self._load()
            if teacher in self._manifest.teachers:
                self._remove(teacher)

    def _remove(self, teacher: str) -> None:
        if not self._teacher(teacher).card.is_derived:
            msg = (
                f"`{teacher}` must be a derived teacher to be replaced in `{self.path}`; it was extracted or "
                "imported. Give the fusion stage another name."
            )
            raise StoreError(msg)
        others = tuple(name for name in self._manifest.teachers if name != teacher)
        self._write(self._manifest.model_copy(update={"teachers": others}))
        with storing(self.path):
            shutil.rmtree(self.path / TEACHERS / teacher)

    def missing(self, teacher: str, output: Signal) -> list[Span]:
        """The spans of an output that have no shard now, in row order."""
        manifest = self._teacher(teacher).outputs.get(output)
        return [] if manifest is None else manifest.missing(self._manifest.spans(table_of(output, manifest)))

    def claimed(self, table: Table, spans: Iterable[Span], keys: Sequence[OutputKey]) -> Iterator[Span]:
        """Those of `spans` that lack one of `keys` and that no other worker has; each is this one's now."""
        for span in spans:
            part = _part(table, span)
            if not self.workers.take(part):
                continue
            if self.missing_outputs(span, keys):
                yield span
            else:
                self.workers.release(part)

    def missing_outputs(self, span: Span, keys: Iterable[OutputKey]) -> list[OutputKey]:
        """Those of `keys` that have no shard of a span."""
        return [key for key in keys if span in self.missing(*key)]

    def draft(self, teacher: str, output: Signal, span: Span) -> ShardDraft:
        """Begin the shard of a span."""
        layout = self._teacher(teacher).outputs[output]
        path = self.path / TEACHERS / teacher / f"{output}-{span[0]:08d}.safetensors"
        return ShardDraft(path, shape=layout.row_shape, dtype=layout.dtype, ragged=layout.ragged)

    def enter(self, table: Table, span: Span, drafts: Mapping[OutputKey, ShardDraft]) -> None:
        """Complete the shards of a claimed span and name them in the teachers' manifests.

        A shard that another process has entered meanwhile, having taken this one for gone, stays as it is.
        """
        shards: dict[str, dict[Signal, Piece]] = {}
        for (teacher, output), draft in drafts.items():
            if draft.rows != span[1] - span[0]:
                msg = f"a shard must hold rows {span[0]} to {span[1]}; got {draft.rows} rows."
                raise StoreError(msg)
            shard = Piece(**draft.finish().model_dump(), start=span[0], stop=span[1])
            shards.setdefault(teacher, {})[output] = shard
        with self.workers.lock():
            for teacher, pieces in shards.items():
                manifest = self._teacher(teacher)
                outputs = dict(manifest.outputs)
                for output, shard in pieces.items():
                    if outputs[output].missing([span]):
                        drafts[teacher, output].place()
                        outputs[output] = outputs[output].with_shard(shard)
                if outputs != manifest.outputs:
                    self._enter(teacher, manifest.model_copy(update={"outputs": outputs, **UNSUMMARIZED}))
        self.workers.release(_part(table, span))

    def summarize(self, teacher: str) -> None:
        """Compute what all rows of a teacher tell, once they are there: its statistics and its agreement.

        One process does, the others wait for it.
        """
        part = f"summary-{teacher}"
        while not self._is_summarized(teacher):
            if self.workers.take(part):
                try:
                    self._summarize(teacher)
                finally:
                    self.workers.release(part)
            else:
                time.sleep(POLL)

    def _is_summarized(self, teacher: str) -> bool:
        """Also while rows are missing that another process brought."""
        store, manifest = load_manifest(self.path, StoreManifest), self._teacher(teacher)
        if any(
            each.missing(store.spans(table_of(output, each))) for output, each in manifest.outputs.items()
        ):
            return True
        compared = not manifest.has_agreement or covers_pairs(manifest, store)
        return manifest.statistics is not None and compared

    def _summarize(self, teacher: str) -> None:
        store, manifest = load_manifest(self.path, StoreManifest), self._teacher(teacher)
        folder = self.path / TEACHERS / teacher
        readers = {
            name: StoredOutput(folder, output, subject=f"{name} output of teacher {teacher!r}")
            for name, output in manifest.outputs.items()
        }
        tensors: dict[str, Array] = {}
        for name, output in manifest.outputs.items() if manifest.statistics is None else ():
            if output.shards:
                parts = (readers[name].part(shard) for shard in output.shards)
                tensors |= statistics_of(parts, output.shape[-1]).tensors(name)
        agreement = None
        if manifest.has_agreement and not covers_pairs(manifest, store):
            agreement = agreement_of(readers["image"], readers["text"], Tables(self.path, store).pairs)
        with self.workers.lock():
            if self._teacher(teacher) != manifest:
                return  # another process brought rows; who fills the last of them comes here again
            update: dict[str, FileEntry] = {}
            if manifest.statistics is None:
                update["statistics"] = write_tensors(folder / STATISTICS, tensors)
            if agreement is not None:
                entry = write_tensors(folder / AVAILABILITY, {AGREEMENT: agreement})
                update["availability"] = Piece(**entry.model_dump(), start=0, stop=len(agreement))
            self._enter(teacher, manifest.model_copy(update=update))

    def _require_same(self, teacher: str, card: TeacherCard, outputs: Layouts) -> None:
        if teacher not in self._manifest.teachers:
            return
        differences = _teacher_differences(self._teacher(teacher), card, outputs)
        if differences:
            lines = "\n  ".join([*differences, _ELSEWHERE])
            msg = f"teacher {teacher!r} must be the one that made `{self.path}`; it differs:\n  {lines}"
            raise StoreError(msg)

    def _admit(self, teacher: str, card: TeacherCard, outputs: Layouts) -> None:
        """Enter a teacher with the layouts of its outputs, or go on with one that `_require_same` passed."""
        if teacher not in self._manifest.teachers:
            folder = self.path / TEACHERS / teacher
            with storing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder, keep=frozenset())
            self._enter(teacher, TeacherManifest(card=card, outputs=outputs))
            self._write(self._manifest.model_copy(update={"teachers": (*self._manifest.teachers, teacher)}))
            return
        known = self._teacher(teacher)
        merged = known.model_copy(update={"card": card, "outputs": {**outputs, **known.outputs}})
        if merged != known:
            self._enter(teacher, merged)

    def _teacher(self, teacher: str) -> TeacherManifest:
        """A teacher's manifest as it is on disk now."""
        return load_manifest(self.path / TEACHERS / teacher, TeacherManifest)

    def _enter(self, teacher: str, manifest: TeacherManifest) -> None:
        write_manifest(self.path / TEACHERS / teacher, manifest.model_dump_json(indent=1))

    def _load(self) -> StoreManifest:
        return _load_or_new(self.path, self._settings, self._shard_rows)

    def _write(self, manifest: StoreManifest) -> None:
        write_manifest(self.path, manifest.model_dump_json(indent=1))
        self._manifest = manifest

    def _clean(self) -> None:
        self._manifest = self._load()
        pieces = [piece for pieces in self._manifest.segments.values() for piece in pieces]
        _require_files(self.path / TABLES, pieces, store=self.path)
        mend_copy(self.path)
        remove_leftovers(self.path, keep=frozenset())
        remove_leftovers(self.path / TABLES, keep=_names(pieces) | _names(map(copy_of, pieces)))
        for name in self._manifest.teachers:
            folder, teacher = self.path / TEACHERS / name, self._teacher(name)
            mend_copy(folder)
            _require_files(folder, files_of(teacher), store=self.path)
            remove_leftovers(folder, keep=_names(files_of(teacher)))


def forget_teacher(path: Path, teacher: str) -> None:
    """Drop a teacher's features from the store at `path`, so that another one may come under its id.

    Raises StoreError while others are at work there.
    """
    with Workers.join(path) as workers:
        if not workers.admit(alone=True):
            msg = (
                f"`{path}` must have no process at work while the features of {teacher!r} are dropped; it "
                "has one. Wait until that is done."
            )
            raise StoreError(msg)
        manifest = load_manifest(path, StoreManifest)
        kept = tuple(name for name in manifest.teachers if name != teacher)
        # First the entry: a folder that no manifest names is cleared when it is filled again.
        write_manifest(path, manifest.model_copy(update={"teachers": kept}).model_dump_json(indent=1))
        shutil.rmtree(path / TEACHERS / teacher, ignore_errors=True)


def _part(table: Table, span: Span) -> str:
    return f"{table}-{span[0]:08d}"


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
        each.name for each in path.iterdir() if each.name not in (WORKERS, TABLES) and each.suffix != ".part"
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


def _require_files(folder: Path, files: Iterable[FileEntry], *, store: Path) -> None:
    wrong = wrong_sizes(folder, sizes_of(files))
    if wrong:
        msg = f"a store must hold its files whole to be continued; {wrong[0]}. {remedy(store)}"
        raise StoreError(msg)


def _names(files: Iterable[FileEntry]) -> frozenset[str]:
    return frozenset(file.file for file in files)
