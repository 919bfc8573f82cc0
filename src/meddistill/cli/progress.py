"""Progress on a terminal as bars with rate and time left; elsewhere as plain lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.table import Column
from rich.text import Text

from meddistill.progress import Advance, Progress

LINE_EVERY_SECONDS = 10.0
Verbosity = Literal["quiet", "normal"]


def make_progress(verbosity: Verbosity) -> Progress:
    """Bars where stderr is a terminal and nobody asked for quiet; plain lines otherwise."""
    if verbosity == "normal" and sys.stderr.isatty():
        return BarProgress()
    return LineProgress()


class _RateColumn(ProgressColumn):
    """Units a second."""

    def render(self, task: Bar) -> Text:
        """The rate as text, of bytes in MB; empty until it is known."""
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        is_bytes = task.fields["unit"] == "bytes"
        return Text(f"{speed / 1e6:,.0f} MB/s" if is_bytes else f"{speed:,.0f}/s", style="cyan")


class BarProgress:
    """One rich bar a task, on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def track(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> Iterator[Advance]:
        """Open a bar."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            # On a narrow terminal the bar gives way; figures that wrapped would make two lines of one.
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            _RateColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
        )
        with Bars(*columns, console=self._console) as bars:
            bar = bars.add_task(label, total=total, completed=done, unit=unit)
            yield lambda units: bars.advance(bar, units)

    def say(self, message: str) -> None:
        """Print one line above the bars."""
        self._console.print(message, markup=False, highlight=False)


class LineProgress:
    """One line when a task starts and ends, and one every ten seconds between."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    @contextmanager
    def track(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> Iterator[Advance]:
        """Open a task whose state is printed now and then."""
        started = last = time.monotonic()
        finished = done

        def advance(units: int) -> None:
            nonlocal finished, last
            finished += units
            now = time.monotonic()
            if now - last >= LINE_EVERY_SECONDS:
                last = now
                rate = (finished - done) / (now - started)
                left = (total - finished) / rate if rate else float("inf")
                self.say(f"{label}: {finished:,}/{total:,} {unit}, {rate:,.0f}/s, {left:,.0f} s left")

        yield advance
        seconds = time.monotonic() - started
        rate = (finished - done) / seconds if seconds else 0.0
        speed = f"{rate / 1e6:,.0f} MB/s" if unit == "bytes" else f"{rate:,.0f}/s"
        self.say(f"{label}: {finished:,} {unit} in {seconds:,.1f} s ({speed})")

    def say(self, message: str) -> None:
        """Print one line."""
        self._stream.write(message + "\n")
        self._stream.flush()
