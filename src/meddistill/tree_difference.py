"""Where two trees of plain values differ, for messages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final


class _Absent:
    def __str__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class TreeDifference:
    """A place, keys with dots between, and what stands there in both trees; ABSENT where nothing does."""

    place: str
    old: Any
    new: Any

    def describe(self, changed: str, *, added: str, removed: str) -> str:
        """The words for it; in them `{old}` and `{new}` are the values."""
        words = added if self.old is ABSENT else removed if self.new is ABSENT else changed
        return f"{self.place}{words.format(old=self.old, new=self.new)}"


def tree_differences(old: Any, new: Any, place: str = "") -> Iterator[TreeDifference]:
    """Every place in which mappings, down to their leaves, differ, keys in order."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(set(old) | set(new)):
            inside = f"{place}.{key}" if place else key
            yield from tree_differences(old.get(key, ABSENT), new.get(key, ABSENT), inside)
    elif old is ABSENT or new is ABSENT or old != new:
        yield TreeDifference(place, old, new)
