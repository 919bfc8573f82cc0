"""From the published layout to a feature store, one shard after another."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from meddistill.data.keys import image_keys, text_keys
from meddistill.data.samples import Samples, name_rows
from meddistill.errors import TableError
from meddistill.features.config import ExtractOptions, StoredPrecision
from meddistill.features.encoding import encode
from meddistill.features.extract import settings_of
from meddistill.features.format import OutputManifest, Span, Table
from meddistill.features.importing.cards import imported_card
from meddistill.features.importing.published import (
    META,
    PROJECTED,
    RAW,
    PublishedSample,
    UnusableSampleError,
    dims_of,
    read_samples,
    read_vectors,
)
from meddistill.features.importing.table import ImportedTable, write_table
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices, distinct_rows, first_appearances
from meddistill.features.tables import Tables
from meddistill.features.writer import OutputKey, StoreWriter
from meddistill.imaging import ImageRef
from meddistill.progress import Progress, SilentProgress
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

OnDamage = Literal["raise", "skip"]
# The samples that show a row of the store.
Members = Callable[[int], Sequence[int]]
_REMEDY: Final = "`--skip-damaged` leaves it out."
_SUFFIX: Final[Mapping[Signal, str]] = {"image": "img", "text": "txt"}
_TABLE: Final[Mapping[Signal, Table]] = {"image": "images", "text": "texts"}
_OUTPUTS: Final[tuple[Signal, Signal]] = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import made: the store, its table of pairs, and the samples that were left out."""

    store: FeatureStore
    table: ImportedTable
    skipped: tuple[str, ...]


def import_published(
    folder: Path,
    out: Path,
    *,
    projected: bool = False,
    precision: StoredPrecision = "float16",
    on_damage: OnDamage = "raise",
    progress: Progress | None = None,
) -> Imported:
    """Bring a folder of the published layout into a feature store, or go on with an interrupted import.

    Images and captions are known by content, as extraction knows them. A teacher that is not among a
    sample's `available_clips` gets a row of zeros there, which stands for nothing; the table beside the
    store lists each row's teachers, for `features: {availability: {column: teachers}}`. Of samples with one
    image or caption the first that has a teacher gives that teacher's vector.

    Parameters
    ----------
    out
        The store's folder. The table is written beside it, as `<out>-pairs.csv`.
    projected
        Take `clips_project_output.pt` (all of one dim) instead of `clips_output.pt`.
    on_damage
        `skip` leaves out samples whose vectors are missing or damaged; `raise` reports them all, and enters
        no shard that needs them.

    Raises
    ------
    TableError
        With every line of `meta.jsonl` and every sample that cannot be used, by line and hash.
    StoreError, ImageError
        As extraction does.
    """
    progress = progress or SilentProgress()
    file = PROJECTED if projected else RAW
    published = read_samples(folder)
    samples = Samples(
        refs=tuple(ImageRef(each.image) for each in published), texts=tuple(each.text for each in published)
    )
    dims = dims_of(published, file)
    _require_known(published, dims, folder)
    options = ExtractOptions(precision=precision)
    rows = distinct_rows(samples, {})
    admitted = {name: _admitted(name, file, dims[name], precision) for name in sorted(dims)}
    with StoreWriter.open(out, settings_of(samples.options, options), options) as writer:
        writer.begin(rows, admitted)
        work = _Import(writer, published, file, dims=dims, precision=precision, on_damage=on_damage)
        for output in _OUTPUTS:
            work.fill(output, _members(writer, samples, output), progress=progress)
        if work.damaged and on_damage == "raise":
            raise TableError(str(folder / META), [f"{line} {_REMEDY}" for line in work.damaged.values()])
        for name in dims:
            writer.summarize(name)
    store = FeatureStore.open(out)
    return Imported(
        store=store,
        table=write_table(store, published, samples, root=folder, teachers=tuple(dims)),
        skipped=tuple(work.damaged.values()),
    )


def _require_known(published: Sequence[PublishedSample], dims: Mapping[str, object], folder: Path) -> None:
    absent = sorted({name for sample in published for name in sample.teachers} - dims.keys())
    if absent:
        raise TableError(
            str(folder / META),
            [
                f"teacher {name} must have a usable sample; it has none. Bring one, or take it out of "
                "available_clips."
                for name in absent
            ],
        )
    if not dims:
        raise TableError(
            str(folder / META),
            ["available_clips must name a teacher; it never does. Name those of each sample."],
        )


def _admitted(
    name: str, file: str, dims: tuple[int, int], precision: StoredPrecision
) -> tuple[TeacherCard, dict[Signal, OutputManifest]]:
    outputs = {
        output: OutputManifest(shape=(dim,), dtype=precision)
        for output, dim in zip(_OUTPUTS, dims, strict=True)
    }
    return imported_card(name, file, dims), outputs


def _members(writer: StoreWriter, samples: Samples, output: Signal) -> Members:
    """The samples that show a row of the store, in their order."""
    keys = image_keys(samples) if output == "image" else text_keys(samples)
    distinct, _, place_of = first_appearances(keys)
    tables = Tables(writer.path, writer.manifest)
    lookup = tables.image_rows(distinct) if output == "image" else tables.text_rows(distinct)
    row_of: Indices = lookup[place_of]
    order = np.argsort(row_of, kind="stable")
    ascending = row_of[order]

    def members(row: int) -> Sequence[int]:
        start, stop = np.searchsorted(ascending, [row, row + 1])
        found: Sequence[int] = order[start:stop].tolist()
        return found

    return members


class _Import:
    """Fills the shards of one import; remembers what of it was damaged, by sample."""

    def __init__(
        self,
        writer: StoreWriter,
        published: Sequence[PublishedSample],
        file: str,
        *,
        dims: Mapping[str, tuple[int, int]],
        precision: StoredPrecision,
        on_damage: OnDamage,
    ) -> None:
        self.damaged: dict[int, str] = {}
        self._writer = writer
        self._published = published
        self._file = file
        self._dims = dims
        self._precision = precision
        self._on_damage = on_damage

    def fill(self, output: Signal, members: Members, *, progress: Progress) -> None:
        """Write every shard of an output that is not there, all teachers at once.

        With `raise`, a shard that needs a damaged sample is not entered.
        """
        keys: list[OutputKey] = [(name, output) for name in sorted(self._dims)]
        table = _TABLE[output]
        spans = [
            span for span in self._writer.manifest.spans(table) if self._writer.missing_outputs(span, keys)
        ]
        rows = self._writer.manifest.rows(table)
        left = sum(stop - start for start, stop in spans)
        with progress.track(f"import: {table}", rows, unit=table, done=rows - left) as advance:
            for span in self._writer.claimed(table, spans, keys):
                self._shard(output, span, members)
                advance(span[1] - span[0])

    def _shard(self, output: Signal, span: Span, members: Members) -> None:
        missing = self._writer.missing_outputs(span, [(name, output) for name in sorted(self._dims)])
        side = _OUTPUTS.index(output)
        values = {
            name: np.zeros((span[1] - span[0], self._dims[name][side]), dtype=np.float32)
            for name, _ in missing
        }
        for place, row in enumerate(range(*span)):
            self._row(values, place, members(row), output)
        if self._on_damage == "raise" and any(
            each in self.damaged for row in range(*span) for each in members(row)
        ):
            return
        with ExitStack() as stack:
            drafts = {key: stack.enter_context(self._writer.draft(*key, span)) for key in missing}
            for (name, _), draft in drafts.items():
                encoded = encode(
                    torch.from_numpy(values[name]),
                    self._precision,
                    leading=1,
                    subject=f"{output} vectors of teacher {name!r}",
                    named=partial(self._lines, members, span),
                )
                draft.append(encoded.values, scale=encoded.scale)
            self._writer.enter(_TABLE[output], span, drafts)

    def _lines(self, members: Members, span: Span, places: Sequence[int]) -> str:
        lines = [self._published[members(span[0] + place)[0]].line for place in places]
        return f"table {name_rows(lines)}"

    def _row(
        self, values: Mapping[str, NDArray[np.float32]], place: int, members: Sequence[int], output: Signal
    ) -> None:
        """The first vector of each teacher among the samples that show this row."""
        wanted = {name for each in members for name in self._published[each].teachers} & values.keys()
        for each in members:
            if not wanted:
                return
            sample = self._published[each]
            if each in self.damaged or wanted.isdisjoint(sample.teachers):
                continue
            try:
                vectors = self._vectors(sample)
            except UnusableSampleError as error:
                self.damaged[each] = f"{sample.name}: {error}"
                continue
            for name in wanted & set(sample.teachers):
                values[name][place] = vectors[f"{name}_{_SUFFIX[output]}"]
            wanted -= set(sample.teachers)

    def _vectors(self, sample: PublishedSample) -> Mapping[str, NDArray[np.float32]]:
        """A sample's vectors, all of their teachers' dims."""
        vectors = read_vectors(sample, self._file)
        for name in sample.teachers:
            got = (len(vectors[f"{name}_img"]), len(vectors[f"{name}_txt"]))
            if got != self._dims[name]:
                msg = f"`{name}` must have dims {self._dims[name]} as in the samples before; got {got}."
                raise UnusableSampleError(msg)
        return vectors
