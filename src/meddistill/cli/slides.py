"""`meddistill slides tile`."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

if TYPE_CHECKING:
    from meddistill.imaging.slides import TileOptions

TABLE: Final = "tiles.csv"
_OWN: Final = ("image", "slide", "x", "y", "mpp", "tissue", "patient")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which tiles of a slide."""

    size: Annotated[int, Parameter(help="Side of a tile in pixels.")] = 256
    mpp: Annotated[float, Parameter(help="Micrometres a pixel of a tile; 0.5 is called 20x.")] = 0.5
    tissue: Annotated[float, Parameter(help="Least share of tissue of a tile.")] = 0.5
    slide_mpp: Annotated[
        float | None, Parameter(help="Micrometres a pixel of the slides, where they do not say.")
    ] = None


DEFAULT_WHICH: Final = Which()


def tile(
    slides: Annotated[list[Path], Parameter(help="Slides that OpenSlide reads: .svs, .ndpi, .mrxs, .tif …")],
    /,
    *,
    out: Annotated[Path, Parameter(help="Gets a folder of PNG tiles for each slide, and tiles.csv.")],
    table: Annotated[
        Path | None,
        Parameter(
            help="CSV with a column `slide` (file names with or without ending); its other columns (patient, "
            "label, split …) go along to every tile."
        ),
    ] = None,
    which: Which = DEFAULT_WHICH,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Cut the tissue of slides into PNG tiles, with a table of them for every other verb.

    In the table a tile is an image, and `slide` says which bag it belongs to. Without a table of slides each
    slide counts as a patient of its own.
    """
    from meddistill.cli.options import RunOptions
    from meddistill.files import write_whole
    from meddistill.imaging.slides import TileOptions
    from meddistill.report.words import plural

    options = _checked(TileOptions, **asdict(which))
    known = _known(slides, table)
    more = [name for name in next(iter(known.values())) if name not in (*_OWN, "slide")]
    rows: list[list[object]] = []
    empty = []
    with RunOptions(quiet=quiet).progress().track("slides", len(slides), unit="slides") as advance:
        for path in slides:
            found = _write_tiles(path, out, options)
            facts = known[path.stem]
            rows += [
                [*own, facts.get("patient", path.stem), *(facts[name] for name in more)] for own in found
            ]
            empty += [] if found else [path]
            advance(1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_OWN, *more])
    writer.writerows(rows)
    write_whole(out / TABLE, text.getvalue().encode())
    for path in empty:
        print(f"{path}: no tile with so much tissue")
    print(f"{plural(len(rows), 'tile')} of {plural(len(slides), 'slide')}: {out / TABLE}")


def _checked(model: "type[TileOptions]", **values: object) -> "TileOptions":
    from pydantic import ValidationError

    from meddistill.errors import ConfigError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        mistakes = [
            f"`{each['loc'][0]}` must be in its range ({each['msg']}); got {each['input']}."
            for each in error.errors()
        ]
        subject = "tiles"
        raise ConfigError(subject, mistakes) from error


def _known(slides: Sequence[Path], table: Path | None) -> dict[str, Mapping[str, str]]:
    """What is known of every slide, by its name without ending."""
    from collections import Counter

    from meddistill.errors import ConfigError, TableError

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
    found = {names[row["slide"]]: row for row in rows if row["slide"] in names}
    several = Counter(names[row["slide"]] for row in rows if row["slide"] in names)
    rules = [
        f"`slide` must hold a slide once; {name!r} stands there more than once. Keep one row."
        for name in [each for each, number in several.items() if number > 1]
    ]
    absent = [path.name for path in slides if path.stem not in found]
    if absent:
        rules.append(f"`slide` must hold every slide that is tiled; {absent[0]!r} is not there. Add its row.")
    if rules:
        raise TableError(str(table), rules)
    return {**found}


def _check_columns(table: Path, row: Mapping[str, str]) -> None:
    """Refuse columns that would take the place of what is told of every tile."""
    from meddistill.errors import TableError

    taken = sorted(set(row).intersection(_OWN) - {"slide", "patient"})
    if taken:
        rule = f"`table` must have no column that tiles have themselves; got {', '.join(taken)}. Rename."
        raise TableError(str(table), [rule])


def _read_rows(table: Path) -> list[dict[str, str]]:
    from meddistill.errors import TableError

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


def _write_tiles(path: Path, out: Path, options: "TileOptions") -> list[tuple[object, ...]]:
    from PIL import Image

    from meddistill.files import write_whole
    from meddistill.imaging.slides import tiles_of

    rows: list[tuple[object, ...]] = []
    for found in tiles_of(path, options):
        name = f"{path.stem}/{found.x}_{found.y}.png"
        buffer = io.BytesIO()
        Image.fromarray(found.pixels).save(buffer, format="PNG")
        write_whole(out / name, buffer.getvalue())
        rows.append((name, path.stem, found.x, found.y, f"{found.mpp:g}", f"{found.tissue:.3f}"))
    return rows
