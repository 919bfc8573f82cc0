"""Progress that keeps its messages and bars."""

from collections.abc import Iterator
from contextlib import contextmanager

from meddistill.progress import Advance


class RecordingProgress:
    """Bars by label: their unit, their length, and how far they came; and every message."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.bars: dict[str, tuple[str, int, int]] = {}

    @contextmanager
    def track(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> Iterator[Advance]:
        self.bars[label] = (unit, total, done)

        def advance(count: int) -> None:
            self.bars[label] = (unit, total, self.bars[label][2] + count)

        yield advance

    def say(self, message: str) -> None:
        """One line."""
        self.messages.append(message)
