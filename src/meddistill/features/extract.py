"""Asking every teacher about every image and text, once, and keeping the answers."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from meddistill.data.samples import Samples
from meddistill.features.config import ExtractOptions
from meddistill.features.extraction_task import (
    ExtractionBatch,
    ExtractionTask,
    ImageExtraction,
    TextExtraction,
)
from meddistill.features.format import OutputManifest, Settings, TextRole
from meddistill.features.layouts import layouts, row_bytes
from meddistill.features.planning import Run, require_room, require_rows, rows_done, runs, sources_of_rows
from meddistill.features.reader import FeatureStore, covered
from meddistill.features.rows import DistinctRows, Indices, distinct_rows
from meddistill.features.tables import Tables
from meddistill.features.workers import POLL
from meddistill.features.writer import StoreWriter
from meddistill.imaging.options import RULES_VERSION, DecodeOptions
from meddistill.progress import Advance, Progress, SilentProgress
from meddistill.signals import Signal
from meddistill.teachers.frozen import FrozenTeacher

_NO_BANKS: Final[Mapping[TextRole, Sequence[str]]] = MappingProxyType({})


def extract(
    path: Path,
    samples: Samples,
    teachers: Mapping[str, FrozenTeacher],
    options: ExtractOptions,
    *,
    progress: Progress | None = None,
    banks: Mapping[TextRole, Sequence[str]] = _NO_BANKS,
) -> FeatureStore:
    """Make a feature store, go on with one that was interrupted, or add rows and teachers to one.

    Every distinct image is decoded once for all teachers, every distinct caption is read once by each.
    Finished shards are kept whatever happens; the same call goes on after them and, with the same arithmetic
    (device, threads, libraries, `batch_size`), ends with the same bytes as a call that was not interrupted.
    Any number of processes may make the same call at once: they share the shards among them, take over those
    of one that dies, and all return when the store is complete.
    All rows are stored; which of them a teacher covers is decided when they are read.

    Parameters
    ----------
    path
        The store's folder: absent, empty, or a store.
    samples
        Images and captions. What a store at `path` does not have yet is added to it.
    teachers
        By id. Teachers that the store has besides these stay as they are.
    options
        `shard_rows` counts for a new store only.
    banks
        Further texts by role, those of banks under `bank`.

    Raises
    ------
    StoreError
        If the store at `path` was made otherwise (the message names the differences), is damaged, is being
        repaired, or will not fit the disk; or if a number does not fit the precision.
    TeacherError, NonFiniteError
        If a teacher fails or gives numbers that are not finite; the message names the table's rows.
    ImageError
        If an image cannot be read.
    """
    progress = progress or SilentProgress()
    rows = distinct_rows(samples, banks)
    asked = {name: layouts(teacher, options) for name, teacher in teachers.items()}
    with StoreWriter.open(path, settings_of(samples.options, options), options) as writer:
        admitted = {name: (teacher.card, asked[name]) for name, teacher in teachers.items()}
        writer.require_same(admitted)
        _say_what_is_new(writer, rows, progress)
        _say_who_is_idle(teachers, rows, progress)
        writer.begin(rows, admitted)
        images, texts = _sources(writer, rows)
        works = (
            ImageExtraction(teachers, images, samples=samples, rows=rows, options=options),
            TextExtraction(teachers, texts, samples=samples, rows=rows, options=options),
        )
        for task, todo in _planned(writer, works, asked):
            _do(writer, task, todo, teachers=tuple(asked), progress=progress)
        for name in teachers:
            writer.summarize(name)
    return FeatureStore.open(path)


def _planned(
    writer: StoreWriter, works: Sequence[ExtractionTask], asked: Mapping[str, Mapping[Signal, OutputManifest]]
) -> Sequence[tuple[ExtractionTask, Sequence[Run]]]:
    """What is left to do, once it is sure that all its rows are known and that it fits the disk."""
    planned = [(task, runs(writer, asked, task.outputs)) for task in works]
    for task, todo in planned:
        require_rows(todo, task.source_of_row, table=task.table, path=writer.path)
    sizes = {(name, output): row_bytes(each) for name in asked for output, each in asked[name].items()}
    require_room(writer, [run for _, todo in planned for run in todo], sizes)
    return planned


def settings_of(decode: DecodeOptions, options: ExtractOptions) -> Settings:
    """What a store with these options holds rows of."""
    policy = options.view_policy
    return Settings(
        decode={"rules": RULES_VERSION, **decode.pixels_depend_on()},
        views=options.views,
        view_policy=None
        if options.views == 1
        else {**policy.model_dump(mode="json"), "fingerprint": policy.fingerprint},
    )


def _sources(writer: StoreWriter, rows: DistinctRows) -> tuple[Indices, Indices]:
    tables, manifest = Tables(writer.path, writer.manifest), writer.manifest
    images, texts = np.arange(len(rows.image_keys)), np.arange(len(rows.text_keys))
    return (
        sources_of_rows(manifest.rows("images"), tables.image_rows(rows.image_keys), images),
        sources_of_rows(manifest.rows("texts"), tables.text_rows(rows.text_keys), texts),
    )


def _do(
    writer: StoreWriter,
    task: ExtractionTask,
    todo: Sequence[Run],
    *,
    teachers: Sequence[str],
    progress: Progress,
) -> None:
    """Make the shards that no other process is making, until none is missing."""
    if not todo:
        return
    done, total = rows_done(writer, todo, task.table)
    with progress.track(task.label, total, unit=task.unit, done=done) as advance:
        while todo:
            rows = 0
            for run in todo:
                spans = writer.claimed(task.table, run.spans, run.keys)
                with closing(task.batches(run, spans)) as batches:
                    while (first := next(batches, None)) is not None:
                        rows += _span(writer, task, run, first=first, batches=batches, advance=advance)
            if not rows:
                time.sleep(POLL)  # others have all that is left; if they fail, it is taken up here
            todo = runs(writer, teachers, task.outputs)
            now, _ = rows_done(writer, todo, task.table)
            advance(max(0, now - done - rows))
            done = max(now, done + rows)


def _span(
    writer: StoreWriter,
    task: ExtractionTask,
    run: Run,
    *,
    first: ExtractionBatch,
    batches: Iterator[ExtractionBatch],
    advance: Advance,
) -> int:
    """Fill and enter the shards of one span, whose first batch is `first`; returns its rows."""
    span = first.span
    with ExitStack() as stack:
        keys = writer.missing_outputs(span, run.keys)
        drafts = {key: stack.enter_context(writer.draft(*key, span)) for key in keys}
        signals = {name: [signal for own, signal in keys if own == name] for name, _ in keys}
        rows, batch = 0, first
        while True:
            for name, asked in signals.items():
                for signal, encoded in task.run(name, asked, batch).items():
                    drafts[name, signal].append(encoded.values, scale=encoded.scale)
            rows += len(batch)
            advance(len(batch))
            if rows == span[1] - span[0]:
                break
            batch = next(batches)
        writer.enter(task.table, span, drafts)
    return rows


def _say_what_is_new(writer: StoreWriter, rows: DistinctRows, progress: Progress) -> None:
    tables = Tables(writer.path, writer.manifest)
    present = writer.manifest.rows("images"), writer.manifest.rows("texts")
    if not any(present):
        return
    known = (tables.image_rows(rows.image_keys) >= 0).sum(), (tables.text_rows(rows.text_keys) >= 0).sum()
    new = len(rows.image_keys) - known[0], len(rows.text_keys) - known[1]
    if any(new):
        progress.say(f"features: {new[0]} images and {new[1]} texts are new and are added to the store")
    unused = present[0] - known[0], present[1] - known[1]
    if any(unused):
        progress.say(f"features: {unused[0]} images and {unused[1]} texts of the store are not in this table")


def _say_who_is_idle(teachers: Mapping[str, FrozenTeacher], rows: DistinctRows, progress: Progress) -> None:
    present = sorted(set(rows.modalities))
    for name, teacher in teachers.items():
        if len(present) and not covered(teacher.card, present).any():
            progress.say(
                f"features: teacher {name} covers none of the table's modalities ({', '.join(present)}); "
                f"its own are {', '.join(teacher.card.modalities or ())}"
            )
