"""`meddistill slides tile`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

if TYPE_CHECKING:
    from meddistill.imaging.slides import TileOptions


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which tiles of a slide."""

    size: Annotated[int, Parameter(help="Side of a tile in pixels.")] = 256
    mpp: Annotated[float, Parameter(help="Micrometres a pixel of a tile; 0.5 is called 20x.")] = 0.5
    tissue: Annotated[float, Parameter(help="Least share of tissue of a tile.")] = 0.5
    slide_mpp: Annotated[
        float | None, Parameter(help="Micrometres a pixel of the slides, where they do not state them.")
    ] = None


DEFAULT_WHICH: Final = Which()


def tile(
    slides: Annotated[
        list[Path],
        Parameter(help="Files that OpenSlide reads, one or more: .svs, .ndpi, .mrxs …"),
    ],
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
    slide counts as a patient of its own. What was stopped goes on when the same is asked for again: finished
    slides are kept, and cut anew where they or the options have changed.
    """
    from meddistill.cli.options import RunOptions
    from meddistill.files import write_changed
    from meddistill.imaging.slides import TABLE, TileOptions, cut_slides, known_slides, tiles_table
    from meddistill.report.formatting import plural

    options = _checked(TileOptions, **asdict(which))
    known = known_slides(slides, table)
    cut = cut_slides(slides, out, options, progress=RunOptions(quiet=quiet).progress())
    write_changed(out / TABLE, tiles_table(cut, known, mpp=options.mpp))
    for each in cut:
        if not each.tiles:
            print(f"{each.path}: no tile with so much tissue")
    count = sum(len(each.tiles) for each in cut)
    print(f"{plural(count, 'tile')} of {plural(len(slides), 'slide')}: {out / TABLE}")


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
