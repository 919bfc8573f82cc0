"""Teachers made from what other teachers of a store gave, written there as one more."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from meddistill.data.samples import name_rows
from meddistill.features.availability import Mask
from meddistill.features.config import ExtractOptions, StoredPrecision
from meddistill.features.encoding import Encoded, encode
from meddistill.features.format import OutputManifest, Span
from meddistill.features.outputs import Array
from meddistill.features.reader import FeatureStore, table_of
from meddistill.features.rows import Indices
from meddistill.features.writer import Layouts, StoreWriter
from meddistill.progress import Advance, Progress, SilentProgress
from meddistill.records import TeacherOutputs, to_device
from meddistill.signals import TOWERS, Tower
from meddistill.teachers.card import TeacherCard

_ROWS: Final = 1024


class Fusing(Protocol):
    """Makes one embedding of those that several teachers give for the same rows."""

    def __call__(self, tower: Tower, outputs: Mapping[str, TeacherOutputs]) -> Float[Tensor, "rows dim"]:
        """The rows of one tower."""
        ...


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """What is derived, and from what.

    `pairs` `[samples, 2]` are the rows of samples in the store, and `available` `[samples]` which of
    them each source is available for. A row of the store is made from the sources that are available for
    one of its samples at least, a text of a bank from all of them; a row of no sample is zeros. `by_pair`:
    rows are pairs, of view 0; else images, of all views, and texts.
    """

    card: TeacherCard
    pairs: Indices
    available: Mapping[str, Mask]
    by_pair: bool = False
    precision: StoredPrecision = "float16"


def write_derived(
    store: FeatureStore,
    name: str,
    derivation: Derivation,
    fuse: Fusing,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Write `name` into the store with every row, or what is missing of it.

    One of that name that was derived otherwise is replaced. Raises StoreError where an extracted teacher has
    that name, NonFiniteError where a fused row is not finite.
    """
    layouts = _layouts(store, derivation)
    with _writer(store) as writer:
        writer.replace(name, derivation.card, layouts)
        missing = {tower: writer.missing(name, tower) for tower in layouts}
        total = sum(stop - start for spans in missing.values() for start, stop in spans)
        if total:
            with (progress or SilentProgress()).track(f"deriving {name}", total, unit="rows") as advance:
                for tower in TOWERS:
                    rows = _Rows(store, derivation, tower, layout=layouts[tower], device=device)
                    for span in missing[tower]:
                        _write_span(writer, name, rows, span=span, fuse=fuse, advance=advance)
        writer.summarize(name)


def remove_derived(store: FeatureStore, name: str) -> None:
    """Take a derived teacher out of the store, if it is there."""
    with _writer(store) as writer:
        writer.remove(name)


def _writer(store: FeatureStore) -> AbstractContextManager[StoreWriter]:
    options = ExtractOptions(shard_rows=store.manifest.shard_rows, batch_size=1)
    return StoreWriter.open(store.path, store.manifest.settings, options)


def _layouts(store: FeatureStore, derivation: Derivation) -> Layouts:
    return {
        tower: OutputManifest(
            shape=(derivation.card.dims[tower],),
            dtype=derivation.precision,
            views=store.views if tower == "image" and not derivation.by_pair else 1,
            by_pair=derivation.by_pair,
        )
        for tower in TOWERS
        if tower in derivation.card.dims
    }


def _write_span(
    writer: StoreWriter, name: str, rows: "_Rows", *, span: Span, fuse: Fusing, advance: Advance
) -> None:
    table = table_of(rows.tower, rows.layout)
    for start, stop in writer.claimed(table, [span], [(name, rows.tower)]):
        with ExitStack() as stack:
            draft = stack.enter_context(writer.draft(name, rows.tower, span))
            for first in range(start, stop, _ROWS):
                part = np.arange(first, min(first + _ROWS, stop))
                encoded = rows.encoded(part, fuse, subject=f"fused {rows.tower} embeddings of {name}")
                draft.append(encoded.values, scale=encoded.scale)
                advance(len(part))
            writer.enter(table, span, {(name, rows.tower): draft})


class _Rows:
    """The sources' outputs for rows of one derived output."""

    def __init__(
        self,
        store: FeatureStore,
        derivation: Derivation,
        tower: Tower,
        *,
        layout: OutputManifest,
        device: torch.device,
    ) -> None:
        self.tower = tower
        self.layout = layout
        self._store = store
        self._derivation = derivation
        self._device = device
        self._pairs = self._pairs_of_rows()
        self._available = {name: self._reached(mask) for name, mask in derivation.available.items()}

    def _pairs_of_rows(self) -> Indices:
        """`[rows, 2]`: image and text of each row, -1 for what it does not have."""
        if self.layout.by_pair:
            return self._store.tables.pairs
        count = self._store.manifest.rows(table_of(self.tower, self.layout))
        pairs = np.full((count, 2), -1, dtype=np.int64)
        pairs[:, TOWERS.index(self.tower)] = np.arange(count)
        return pairs

    def _reached(self, mask: Mask) -> Mask:
        """Which rows a source is available for: those of a sample that it is available for."""
        samples = self._derivation.pairs[mask]
        if self.layout.by_pair:
            rows = self._store.tables.pair_rows(samples)
        else:
            rows = samples[:, TOWERS.index(self.tower)]
        reached = np.zeros(len(self._pairs), dtype=np.bool_)
        reached[rows[rows >= 0]] = True
        if self.tower == "text" and not self.layout.by_pair:
            codes, names = self._store.tables.names("role")
            reached |= np.array([name != "caption" for name in names], dtype=np.bool_)[codes]
        return reached

    @torch.no_grad()
    def encoded(self, rows: Indices, fuse: Fusing, *, subject: str) -> Encoded:
        """Fused rows as they are stored."""
        views = self.layout.views
        outputs = {name: self._outputs(name, rows, views) for name in self._available}
        fused = fuse(self.tower, outputs).float()
        values = fused if views == 1 else fused.unflatten(0, (len(rows), views))
        leading = 1 if views == 1 else 2
        return encode(
            values,
            self.layout.dtype,
            leading=leading,
            subject=subject,
            named=lambda places: f"{name_rows((rows[places] + 1).tolist())} of the store, counted from 1",
        )

    def _outputs(self, source: str, rows: Indices, views: int) -> TeacherOutputs:
        mask = torch.from_numpy(np.repeat(self._available[source][rows], views)).to(self._device)
        read = dict(self._read(source, rows, views))
        return TeacherOutputs.of_rows(mask, image=read.get("image"), text=read.get("text"))

    def _read(self, source: str, rows: Indices, views: int) -> Iterator[tuple[Tower, Tensor]]:
        for column, tower in enumerate(TOWERS):
            asked = self._pairs[rows, column]
            if tower not in self._store.outputs(source) or (asked < 0).any():
                continue
            first = np.zeros(len(rows), dtype=np.int64) if tower == "image" and views == 1 else None
            stored: Array = self._store.read(source, tower, asked, views=first)
            values = to_device(torch.from_numpy(np.ascontiguousarray(stored)), self._device).float()
            yield tower, values.flatten(0, 1) if values.dim() == 3 else values
