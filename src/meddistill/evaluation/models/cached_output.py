"""One output of one model in a feature store of its own: asked once, found again by content.

A store holds one output of one model, so that its rows are always the ones that this model was asked for:
a model that joins later, or a suite that changed, never waits for rows that nobody shows any more. Texts
are not in a store, so a shard can only be filled by a run that has all its rows at hand. Where a dead run
left shards that the present rows do not fill, the store is made anew.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Ints
from meddistill.errors import StoreError
from meddistill.features.config import ExtractOptions, StoredPrecision
from meddistill.features.files import MANIFEST, MANIFEST_COPY
from meddistill.features.format import TABLES, TEACHERS, OutputManifest, Settings, Span, TextRole
from meddistill.features.planning import sources_of_rows
from meddistill.features.reader import TABLE_OF, FeatureStore
from meddistill.features.rows import DistinctRows, Indices
from meddistill.features.tables import Tables
from meddistill.features.verify import repair
from meddistill.features.workers import POLL, Workers
from meddistill.features.writer import StoreWriter
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

_ID: Final = "model"
_OWN: Final = (MANIFEST, MANIFEST_COPY, TABLES, TEACHERS)
_NONE: Final = np.empty(0, dtype=np.int64)
# What moves pixels is part of an image's key, so that one store serves tables that decode differently.
_SETTINGS: Final = Settings(decode={})


@dataclass(frozen=True, kw_only=True)
class ComputedRows:
    """What a model said of some rows: `values` `[rows, ...]`; of rows of different `lengths` `[sum, ...]`."""

    values: NDArray[Any]
    lengths: Ints | None = None
    grid: tuple[int, int] | None = None


ComputeFn = Callable[[Sequence[int]], ComputedRows]
Result = TypeVar("Result")


class CachedOutput:
    """Reads and completes one store. Several processes may at once."""

    def __init__(
        self, folder: Path, output: Signal, *, card: TeacherCard, dtype: StoredPrecision, shard_rows: int
    ) -> None:
        self._folder, self._output, self._dtype = folder, output, dtype
        self._card = card
        self._options = ExtractOptions(precision=dtype, shard_rows=shard_rows, batch_size=shard_rows)
        self._found: FeatureStore | None = None

    @property
    def layout(self) -> OutputManifest | None:
        """Shape and grid of the rows; None before the first."""
        store = self._store()
        return None if store is None else store.outputs(_ID)[self._output]

    def missing(self, keys: Sequence[str]) -> list[int]:
        """The first position of each key that is not there yet."""
        return self._mending(lambda: self._missing(keys))

    def _missing(self, keys: Sequence[str]) -> list[int]:
        first: dict[str, int] = {}
        for position, key in enumerate(keys):
            first.setdefault(key, position)
        store = self._store()
        if store is None:
            return list(first.values())
        rows = self._rows_of(store, tuple(first))
        there = (rows >= 0) & (rows < store.output(_ID, self._output).rows)
        return [position for position, found in zip(first.values(), there.tolist(), strict=True) if not found]

    def read(self, keys: Sequence[str], ask: ComputeFn) -> ComputedRows:
        """The rows of `keys`, in their order; `ask` answers for positions in `keys` that are not there yet.

        What is damaged is found by its hash and asked for again.
        """

        def whole() -> ComputedRows:
            self._complete(keys, ask)
            return self._read(keys)

        return self._mending(whole)

    def _mending(self, work: Callable[[], Result]) -> Result:
        """What `work` gives, tried again once when something in the store was found damaged and dropped."""
        try:
            return work()
        except StoreError:
            if not self._mend():
                raise
        return work()

    def _read(self, keys: Sequence[str]) -> ComputedRows:
        store, layout = self._store(), self.layout
        if store is None or layout is None:
            return ComputedRows(values=np.zeros((0, 0), dtype=self._dtype))
        rows = self._rows_of(store, keys)
        if layout.ragged:
            ragged = store.read_ragged(_ID, self._output, rows)
            return ComputedRows(values=ragged.values, lengths=np.diff(ragged.offsets))
        return ComputedRows(values=store.read(_ID, self._output, rows), grid=layout.grid)

    def _complete(self, keys: Sequence[str], ask: ComputeFn) -> None:
        while missing_rows := self._missing(keys):
            filled = self._fill(keys, missing_rows, ask)
            self._found = None
            if not filled:
                self._forget_unfinished()

    def _fill(self, keys: Sequence[str], missing_rows: Sequence[int], ask: ComputeFn) -> bool:
        """Add what is missing; False where shards are left that these rows do not fill."""
        answers: dict[tuple[int, ...], ComputedRows] = {}
        layout = self.layout
        if layout is None:
            head = tuple(missing_rows[: self._options.shard_rows])
            answers[head] = ask(head)
            layout = self._layout_of(answers[head])
        with StoreWriter.open(self._folder, _SETTINGS, self._options) as writer:
            writer.begin(
                self._distinct([keys[position] for position in missing_rows]),
                {_ID: (self._card, {self._output: layout})},
            )
            sources = self._sources(writer, keys)
            while unfilled := writer.missing(_ID, self._output):
                whole = [span for span in unfilled if (sources[span[0] : span[1]] >= 0).all()]
                made = 0
                for span in self._claimed(writer, whole):
                    positions = tuple(sources[span[0] : span[1]].tolist())
                    self._write(writer, span, answers.get(positions) or ask(positions))
                    answers.clear()
                    made += 1
                if not made and not whole:
                    return False
                if not made:
                    time.sleep(POLL)  # another process has them
        return True

    def _write(self, writer: StoreWriter, span: Span, answer: ComputedRows) -> None:
        with writer.draft(_ID, self._output, span) as draft:
            draft.append(answer.values, lengths=answer.lengths)
            writer.enter(TABLE_OF[self._output], span, {(_ID, self._output): draft})

    def _claimed(self, writer: StoreWriter, spans: Iterable[Span]) -> Iterator[Span]:
        return writer.claimed(TABLE_OF[self._output], spans, [(_ID, self._output)])

    def _sources(self, writer: StoreWriter, keys: Sequence[str]) -> Indices:
        """The position in `keys` of every row of the store; -1 for rows that are not at hand."""
        tables, table = Tables(writer.path, writer.manifest), TABLE_OF[self._output]
        rows = tables.image_rows(keys) if table == "images" else tables.text_rows(keys)
        known = np.flatnonzero(rows >= 0)[::-1]  # of copies the first counts
        return sources_of_rows(writer.manifest.rows(table), rows[known], known)

    def _layout_of(self, answer: ComputedRows) -> OutputManifest:
        return OutputManifest(
            shape=answer.values.shape[1:],
            dtype=self._dtype,
            ragged=answer.lengths is not None,
            grid=answer.grid,
        )

    def _distinct(self, keys: Sequence[str]) -> DistinctRows:
        images = tuple(keys) if TABLE_OF[self._output] == "images" else ()
        texts = () if images else tuple(keys)
        role: TextRole = "bank"
        return DistinctRows(
            image_keys=images,
            image_samples=_NONE,
            modalities=("",) * len(images),
            text_keys=texts,
            texts=(),
            text_places=_NONE,
            roles=(role,) * len(texts),
            pairs=_NONE.reshape(0, 2),
        )

    def _store(self) -> FeatureStore | None:
        if self._found is None and self._folder.is_dir() and any(self._folder.glob("manifest*.json")):
            store = FeatureStore.open(self._folder)
            self._found = store if _ID in store.teachers else None
        return self._found

    def _rows_of(self, store: FeatureStore, keys: Sequence[str]) -> Indices:
        return store.image_rows(keys) if TABLE_OF[self._output] == "images" else store.text_rows(keys)

    def _mend(self) -> bool:
        """Drop what is damaged; whether anything was."""
        self._found = None
        try:
            return bool(repair(self._folder).damages)
        except StoreError:
            return self._forget_unfinished()

    def _forget_unfinished(self) -> bool:
        """Delete a store that lacks rows or cannot be read, once nobody is at work in it."""
        with Workers.join(self._folder) as workers:
            if not workers.admit(alone=True):
                time.sleep(POLL)
                return True
            with suppress(StoreError):
                store = FeatureStore.open(self._folder)
                if _ID in store.teachers and not store.missing(_ID):
                    return False
            own = [path for name in _OWN if (path := self._folder / name).exists()]
            for path in own:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            return bool(own)
