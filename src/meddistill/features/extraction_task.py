"""Batches of images or texts of a run, and what teachers output for them."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from meddistill.data.prefetch import Prefetcher
from meddistill.data.rasters import ImageRasters, Pixels
from meddistill.data.samples import Samples, name_rows
from meddistill.data.threads import Threads
from meddistill.errors import NonFiniteError, StoreError, TeacherError
from meddistill.features.config import ExtractOptions
from meddistill.features.encoding import Encoded, encode
from meddistill.features.format import Span, Table
from meddistill.features.planning import Run
from meddistill.features.rows import DistinctRows, Indices
from meddistill.imaging import Geometry
from meddistill.signals import Signal
from meddistill.teachers.frozen import FrozenTeacher

Views = list[dict[Geometry, Tensor]]


@dataclass(frozen=True)
class ExtractionBatch:
    """One batch of a span: `inputs` as `_run` takes them, and the samples they are of, -1 for a bank's."""

    inputs: Any
    samples: tuple[int, ...]
    span: Span

    def __len__(self) -> int:
        return len(self.samples)


class ExtractionTask(ABC):
    """One table's share of an extraction.

    `source_of_row` is where `rows` has each row of the store; -1 for rows that are not at hand.
    """

    table: Table
    outputs: tuple[Signal, ...]
    label: str
    unit: str

    def __init__(
        self,
        teachers: Mapping[str, FrozenTeacher],
        source_of_row: Indices,
        *,
        samples: Samples,
        rows: DistinctRows,
        options: ExtractOptions,
    ) -> None:
        self.source_of_row = source_of_row
        self._teachers = teachers
        self._samples = samples
        self._rows = rows
        self._options = options

    @abstractmethod
    def batches(self, run: Run, spans: Iterable[Span]) -> Generator[ExtractionBatch, None, None]:
        """The batches of those spans of a run that `spans` gives, each drawn ahead of its use."""

    @abstractmethod
    def _run(self, teacher: str, signals: Collection[Signal], inputs: Any) -> Mapping[Signal, Tensor]:
        """What one teacher outputs, `[batch, ...]` a signal."""

    @abstractmethod
    def _one(self, inputs: Any, place: int) -> Any:
        """The inputs of one element of a batch, as a batch of one."""

    @property
    @abstractmethod
    def _views(self) -> int:
        """How many views an answer holds."""

    def run(self, teacher: str, signals: Collection[Signal], batch: ExtractionBatch) -> dict[Signal, Encoded]:
        """What one teacher outputs, as it is stored; an error names the table's rows that cause it."""
        try:
            outputs = self._run(teacher, signals, batch.inputs)
        except torch.OutOfMemoryError as error:
            msg = (
                f"teacher {teacher!r} must fit the device with {len(batch)} {self.unit} at once; its "
                "memory is full. Lower `features: {batch_size}`."
            )
            raise StoreError(msg) from error
        except (TeacherError, NonFiniteError) as error:
            tables = self._by_table(batch, self._failing(teacher, signals, batch))
            lines = [f"In the {table}: {name_rows(rows)}." for table, rows in tables.items()]
            msg = f"{error} {' '.join(lines) or 'The inputs were texts of a bank.'}"
            raise type(error)(msg) from error
        return {
            signal: encode(
                values,
                self._options.precision,
                leading=1 if self._views == 1 else 2,
                subject=f"{signal} output of teacher {teacher!r}",
                named=partial(self._named, batch),
            )
            for signal, values in outputs.items()
        }

    def _failing(self, teacher: str, signals: Collection[Signal], batch: ExtractionBatch) -> list[int]:
        places = []
        for place in range(len(batch)):
            try:
                self._run(teacher, signals, self._one(batch.inputs, place))
            except (TeacherError, NonFiniteError):
                places.append(place)
        return places or list(range(len(batch)))

    def _named(self, batch: ExtractionBatch, places: Sequence[int]) -> str:
        tables = self._by_table(batch, places)
        return (
            " and ".join(f"{table} {name_rows(rows)}" for table, rows in tables.items()) or "texts of a bank"
        )

    def _by_table(self, batch: ExtractionBatch, places: Sequence[int]) -> dict[str, list[int]]:
        return self._samples.rows_by_table(each for place in places if (each := batch.samples[place]) >= 0)

    def _row_ranges(self, span: Span) -> list[range]:
        size = self._options.batch_size
        return [range(start, min(start + size, span[1])) for start in range(span[0], span[1], size)]


@final
class ImageExtraction(ExtractionTask):
    """Images through every teacher that sees: each is decoded once for all teachers and all views."""

    table: Table = "images"
    outputs: tuple[Signal, ...] = ("image", "patches")
    label = "teachers' images"
    unit = "images"

    @property
    def _views(self) -> int:
        return self._options.views

    def batches(self, run: Run, spans: Iterable[Span]) -> Generator[ExtractionBatch, None, None]:
        """Batches of `[{geometry: uint8 [b, h, w, 3]}]`, one entry a view."""
        sources = self.source_of_row[run.start : run.stop]
        shown = self._rows.image_samples[sources]
        samples = self._samples.take(shown)
        rasters = ImageRasters(
            samples,
            [self._rows.image_keys[source] for source in sources],
            policy=self._options.view_policy,
            keep_decoded=False,
            cache_bytes=0,
        )
        seen = {self._teachers[teacher].card.input for teacher, _ in run.keys}
        geometries = sorted({spec.geometry for spec in seen if spec is not None})
        wanted = [(view, each) for view in range(self._views) for each in geometries]
        requested: deque[tuple[range, Span]] = deque()

        def requests() -> Iterator[range]:
            for span in spans:
                for batch in self._row_ranges(span):
                    requested.append((range(batch.start - run.start, batch.stop - run.start), span))
                    yield requested[-1][0]

        workers = min(self._options.workers, -(-run.rows // self._options.batch_size))
        ahead = Prefetcher(_ViewPreparer(rasters, wanted, Threads()), workers=workers)
        try:
            for tensors in ahead.results(requests()):
                request, span = requested.popleft()
                views: Views = [{} for _ in range(self._views)]
                for (view, geometry), tensor in zip(wanted, tensors, strict=True):
                    views[view][geometry] = tensor
                yield ExtractionBatch(views, tuple(shown[request.start : request.stop].tolist()), span)
        finally:
            ahead.close()

    def _run(self, teacher: str, signals: Collection[Signal], inputs: Views) -> Mapping[Signal, Tensor]:
        model = self._teachers[teacher]
        if model.card.input is None:
            msg = f"teacher {teacher!r} must see images for its {', '.join(signals)}; it has no `input`."
            raise TeacherError(msg)
        geometry = model.card.input.geometry
        answers = [model.image_outputs(view[geometry], signals) for view in inputs]
        if len(answers) == 1:
            return answers[0]
        return {signal: torch.stack([each[signal] for each in answers], dim=1) for signal in signals}

    def _one(self, inputs: Views, place: int) -> Views:
        return [{shape: tensor[place : place + 1] for shape, tensor in view.items()} for view in inputs]


@final
class TextExtraction(ExtractionTask):
    """Distinct texts through every teacher that reads."""

    table: Table = "texts"
    outputs: tuple[Signal, ...] = ("text",)
    label = "teachers' texts"
    unit = "texts"

    @property
    def _views(self) -> int:
        return 1

    def batches(self, run: Run, spans: Iterable[Span]) -> Generator[ExtractionBatch, None, None]:  # noqa: ARG002
        """Batches of texts."""
        for span in spans:
            for batch in self._row_ranges(span):
                sources = self.source_of_row[batch.start : batch.stop].tolist()
                texts = [self._rows.texts[source] for source in sources]
                yield ExtractionBatch(texts, tuple(map(self._sample, sources)), span)

    def _run(self, teacher: str, signals: Collection[Signal], inputs: list[str]) -> Mapping[Signal, Tensor]:
        return {signal: self._teachers[teacher].text_embeddings(inputs) for signal in signals}

    def _one(self, inputs: list[str], place: int) -> list[str]:
        return inputs[place : place + 1]

    def _sample(self, source: int) -> int:
        place = int(self._rows.text_places[source])
        return place if place < len(self._samples) else -1


class _ViewPreparer:
    """Several views and geometries of a run of images, each image decoded once."""

    def __init__(
        self, rasters: ImageRasters, wanted: Sequence[tuple[int, Geometry]], threads: Threads
    ) -> None:
        self._rasters, self._wanted, self._threads = rasters, wanted, threads

    def for_workers(self, workers: int) -> Self:  # noqa: ARG002
        return type(self)(self._rasters, self._wanted, Threads(1))

    def prepare(self, request: range) -> list[Tensor]:
        arrays: list[Pixels] = [
            np.empty((len(request), each.height, each.width, 3), dtype=np.uint8) for _, each in self._wanted
        ]

        def fill(place: int) -> None:
            for array, raster in zip(arrays, self._rasters.of(request[place], self._wanted), strict=True):
                array[place] = raster

        self._threads.run(fill, range(len(request)))
        return [torch.from_numpy(array) for array in arrays]
