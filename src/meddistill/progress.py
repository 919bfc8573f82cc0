"""How long work tells how far it is: one protocol, and the silent version of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Shows tasks of known length. `track` yields a function that is called with the units just done."""

    def track(
        self, label: str, total: int, *, unit: str = "images", done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Open a task of `total` units, `done` of which an earlier run finished already."""
        ...

    def say(self, message: str) -> None:
        """One line of plain text between the bars."""
        ...


class NamedProgress:
    """Progress of a part of the work, whose name stands before every line."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def track(
        self, label: str, total: int, *, unit: str = "images", done: int = 0
    ) -> AbstractContextManager[Advance]:
        """Open a task under the part's name."""
        return self._progress.track(f"{self._name}: {label}", total, unit=unit, done=done)

    def say(self, message: str) -> None:
        """One line under the part's name."""
        self._progress.say(f"{self._name}: {message}")


class SilentProgress:
    """Progress that shows nothing."""

    @contextmanager
    def track(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> Iterator[Advance]:  # noqa: ARG002
        """Open a task that nobody sees."""
        yield lambda _: None

    def say(self, message: str) -> None:
        """Say it to nobody."""
