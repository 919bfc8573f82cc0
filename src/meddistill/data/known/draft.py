"""What the preparer of a data set says of it: rows, suite entries, and what the reader has to know."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Row = dict[str, str]
Entry = dict[str, Any]

SPLITS: Final = ("train", "validation", "test")
SHARES: Final = {"train": 0.7, "validation": 0.1, "test": 0.2}


@dataclass(frozen=True, kw_only=True)
class DraftTable:
    """A table to write: `<name>.csv` with these columns, in the order of the first row.

    `in_place`: image paths start at the folder that the set was read from; otherwise at the folder that is
    written. `views` are the suite's tables over it: their name → the values that a row must have. `roles` are
    the columns of these that a suite's table names by role, `image` among them.
    """

    name: str
    rows: Sequence[Row]
    views: dict[str, dict[str, str]]
    roles: Mapping[str, str]
    in_place: bool = True


@dataclass(kw_only=True)
class Draft:
    """All that is written for one data set; `notes` are lines for the summary and the suite's head."""

    tables: list[DraftTable] = field(default_factory=list)
    tasks: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def by_split(name: str, rows: Iterable[Row]) -> dict[str, dict[str, str]]:
    """One view a split that occurs, `<name>_<split>`."""
    there = {row["split"] for row in rows}
    return {f"{name}_{split}": {"split": split} for split in SPLITS if split in there}


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Rows of each split, in the order of `SPLITS`; `all` where a table has no splits."""
    rows_of = Counter(row.get("split", "all") for row in rows)
    return {split: rows_of[split] for split in (*SPLITS, "all") if rows_of[split]}
