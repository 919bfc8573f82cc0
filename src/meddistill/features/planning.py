"""What is left to extract: runs of shards that the same teachers lack."""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError
from meddistill.features.format import Span, Table
from meddistill.features.rows import Indices
from meddistill.features.writer import OutputKey, StoreWriter
from meddistill.signals import Signal


@dataclass(frozen=True)
class Run:
    """Spans, in row order, that lack the same outputs."""

    spans: tuple[Span, ...]
    keys: tuple[OutputKey, ...]

    @property
    def start(self) -> int:
        """The first row."""
        return self.spans[0][0]

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.spans[-1][1]

    @property
    def rows(self) -> int:
        """How many rows the spans have."""
        return sum(stop - start for start, stop in self.spans)


def runs(writer: StoreWriter, teachers: Iterable[str], outputs: Sequence[Signal]) -> list[Run]:
    """The missing shards of some outputs, over the table that all of them describe."""
    missing: dict[Span, list[OutputKey]] = {}
    for teacher in teachers:
        for output in outputs:
            for span in writer.missing(teacher, output):
                missing.setdefault(span, []).append((teacher, output))
    grouped: dict[tuple[OutputKey, ...], list[Span]] = {}
    for span in sorted(missing):
        grouped.setdefault(tuple(missing[span]), []).append(span)
    return [Run(tuple(spans), keys) for keys, spans in grouped.items()]


def require_rows(work: Sequence[Run], source_of_row: Indices, *, table: Table, path: Path) -> None:
    """Raise StoreError if shards are missing over rows that the samples at hand do not show."""
    spans = [span for run in work for span in run.spans]
    absent = sum(int((source_of_row[start:stop] < 0).sum()) for start, stop in spans)
    if absent:
        msg = (
            f"the table must show the {table} that the store `{path}` still lacks features of; {absent} of "
            "them are not in it. The table has changed since: extract with the table that the store was "
            "begun with, or to another folder."
        )
        raise StoreError(msg)


def require_room(writer: StoreWriter, work: Sequence[Run], row_sizes: dict[OutputKey, int]) -> None:
    """Raise StoreError, before anything is computed, if the missing shards will not fit the disk."""
    needed = sum(run.rows * sum(row_sizes[key] for key in run.keys) for run in work)
    free = shutil.disk_usage(writer.path).free
    if needed > free:
        msg = (
            f"`{writer.path}` must have room for the features: {needed / 1e9:.2f} GB are needed and "
            f"{free / 1e9:.2f} GB are free. Free some space, choose another disk, or store fewer views."
        )
        raise StoreError(msg)


def sources_of_rows(count: int, rows: Indices, sources: NDArray[np.int64]) -> Indices:
    """`[count]`: the source of each store row; -1 for rows that these samples do not show."""
    source_of_row = np.full(count, -1, dtype=np.int64)
    source_of_row[rows] = sources
    return source_of_row


def rows_done(writer: StoreWriter, work: Sequence[Run], table: Table) -> tuple[int, int]:
    """Rows of a table that need nothing more, and all of its rows."""
    total = writer.manifest.rows(table)
    return total - sum(run.rows for run in work), total
