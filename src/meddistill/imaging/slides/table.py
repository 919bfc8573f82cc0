"""The table of slides that a user gives, and the table of tiles that is made with it."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from meddistill.errors import ConfigError, TableError
from meddistill.files import printable
from meddistill.imaging.slides.cutting import CutSlide

_OWN: Final = ("image", "slide", "x", "y", "mpp", "tissue", "patient")
Known = Mapping[str, Mapping[str, str]]


def known_slides(slides: Sequence[Path], table: Path | None) -> Known:
    """What `table` says of every slide, by the slide's name without ending; nothing without a table.

    Raises ConfigError for slides of one name. Raises TableError for a table that is no CSV, lacks a slide or
    has it twice, or has columns that tiles have themselves.
    """
    twice = [name for name, number in Counter(path.stem for path in slides).items() if number > 1]
    if twice:
        rule = f"`slides` must have different names; got {twice[0]!r} more than once. Rename."
        subject = "slides"
        raise ConfigError(subject, [rule])
    if table is None:
        return {path.stem: {} for path in slides}
    rows = _read_rows(table)
    _check_columns(table, rows[0])
    names = {path.name: path.stem for path in slides} | {path.stem: path.stem for path in slides}
    by_slide = {names[row["slide"]]: row for row in rows if row["slide"] in names}
    several = Counter(names[row["slide"]] for row in rows if row["slide"] in names)
    rules = [
        f"`slide` must hold a slide once; {name!r} stands there more than once. Keep one row."
        for name in [each for each, number in several.items() if number > 1]
    ]
    absent = [path.name for path in slides if path.stem not in by_slide]
    if absent:
        rules.append(f"`slide` must hold every slide that is tiled; {absent[0]!r} is not there. Add its row.")
    TableError.raise_any(str(table), rules)
    return {**by_slide}


def tiles_table(cut: Sequence[CutSlide], known: Known, *, mpp: float) -> bytes:
    """The CSV of all tiles: a row a tile, its place and tissue, and what is known of its slide.

    Where the patient of a slide is not known, its name stands for one.
    """
    more = [name for name in next(iter(known.values())) if name not in (*_OWN, "slide")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_OWN, *more])
    for slide in cut:
        # Tables are UTF-8, whatever the names of slides are.
        name, facts = printable(slide.path.stem), known[slide.path.stem]
        beside = [facts.get("patient", name), *(facts[each] for each in more)]
        for tile in slide.tiles:
            own = [f"{name}/{tile.name}", name, tile.x, tile.y, f"{mpp:g}", f"{tile.tissue:.3f}"]
            writer.writerow([*own, *beside])
    return text.getvalue().encode()


def _check_columns(table: Path, row: Mapping[str, str]) -> None:
    """Refuse columns that would take the place of what is told of every tile."""
    taken = sorted(set(row).intersection(_OWN) - {"slide", "patient"})
    if taken:
        rule = f"`table` must have no column that tiles have themselves; got {', '.join(taken)}. Rename."
        raise TableError(str(table), [rule])


def _read_rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        rule = f"`table` must be a readable CSV in UTF-8; got {type(error).__name__}."
        raise TableError(str(table), [rule]) from error
    if not rows or "slide" not in rows[0]:
        raise TableError(str(table), ["`table` must have rows and a column `slide`; it has not. Add them."])
    return rows
