"""Which tar shards the name of a table means."""

import re
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

import bracex

from meddistill.errors import TableError

_MOST_SHARDS = 1_000_000
_MOST_SHOWN = 5
_TAR = re.compile(r"\.(tar|tgz|tar\.\w+)$", re.IGNORECASE)
_MARK = slice(257, 262)
_OF_DATASETS = ("state.json", "dataset_dict.json")


def find_shards(table: Path, *, base: Path) -> tuple[Path, ...] | None:
    """The shards that `table` (relative to `base`) means, in order; None if it means a table of another kind.

    `table` is a tar, a folder with tars directly in it (in the order of their names), or a pattern:
    `{000..099}` and `{a,b}` are expanded in their own order and have to be there, each and all; `*`, `?` and
    `[…]` stand for what is there, in the order of its names. What exists under the very name is never a
    pattern. Compressed tars count as shards here, so that they are refused by name and not overlooked.

    Raises TableError for a pattern that means nothing, a file that is missing, or one that is no tar.
    """
    path = base / table
    if path.is_dir():
        return None if any((path / name).is_file() for name in _OF_DATASETS) else _inside(path)
    if path.is_file():
        return (path,) if _TAR.search(path.name) or _is_tar(path) else None
    pattern = str(table)
    if "{" not in pattern and not has_magic(pattern):
        return None
    return _expanded(pattern, base)


def _is_tar(path: Path) -> bool:
    """Whether a file of another name is a tar, by the mark in its first header; an unreadable one is not."""
    try:
        with path.open("rb") as file:
            return file.read(_MARK.stop)[_MARK] == b"ustar"
    except OSError:
        return False


def _inside(folder: Path) -> tuple[Path, ...] | None:
    tars = [each for each in folder.iterdir() if _TAR.search(each.name) and not each.name.startswith(".")]
    return tuple(sorted(tars)) or None


def _expanded(pattern: str, base: Path) -> tuple[Path, ...]:
    shown = str(base / pattern)
    try:
        names = bracex.expand(pattern, limit=_MOST_SHARDS)
    except bracex.ExpansionLimitException:
        rule = f"`table` must mean at most {_MOST_SHARDS:,} shards; got more. Mend the pattern."
        raise TableError(shown, [rule]) from None
    paths: list[Path] = []
    missing: list[str] = []
    for name in names:
        files = [each for each in _matches(name, base) if each.is_file()]
        paths += files
        missing += [] if files else [name]
    mistakes = []
    if missing:
        mistakes.append(f"`table` must mean files that are there; got {_some(missing)}. Mend the pattern.")
    others = [each.name for each in paths if not _TAR.search(each.name)]
    if others:
        mistakes.append(f"a `table` that is a pattern must mean tars; got {_some(others)}. Name one file.")
    if len(set(paths)) < len(paths):
        mistakes.append("`table` must mean a shard once; got one twice. Mend the pattern.")
    if mistakes:
        raise TableError(shown, mistakes)
    return tuple(paths)


def _matches(name: str, base: Path) -> list[Path]:
    path = base / name
    if not has_magic(name):
        return [path]
    # `base` itself may hold signs that mean something in patterns.
    start = Path(path.anchor) if Path(name).is_absolute() else base
    return sorted(start.glob(str(path.relative_to(start))))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SHOWN
    listed = ", ".join(f"`{name}`" for name in names[:_MOST_SHOWN])
    return f"{listed} and {more:,} more" if more > 0 else listed
