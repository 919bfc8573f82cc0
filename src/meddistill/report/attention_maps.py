"""Attention over a slide as a map of squares, one for every tile or several neighbouring ones."""

from typing import Final

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import AttentionMap
from meddistill.report.svg import element

# Bounds of the shades, in multiples of equal attention. Doublings, and the same in all maps: so the few tiles
# that hold nearly everything in one slide do not make all others look alike, and slides can be compared.
BOUNDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SCALE: Final = ("below ½", "½ to 1", "1 to 2", "2 to 4", "4 to 8", "8 to 16", "16 and above")


def shade(attention: float) -> int:
    """The shade of relative attention, 0 to 6."""
    return sum(attention >= bound for bound in BOUNDS)


def drawn(places: AttentionMap, highest: int, label: str) -> Markup:
    """The map; the square of the instance `highest` has an outline."""
    squares: dict[int, list[str]] = {}
    for cell, attention in zip(places.cells, places.attention, strict=True):
        row, column = divmod(cell, places.columns)
        squares.setdefault(shade(attention), []).append(f"M{column} {row}h1v1h-1z")
    paths = [
        element("path", d="".join(cells), class_=f"tile-{number}")
        for number, cells in sorted(squares.items())
    ]
    return _framed(places, highest, label, *paths)


def over_picture(places: AttentionMap, highest: int, address: str, label: str) -> Markup:
    """The picture made of tiles, in the frame of the map and with the same outline."""
    picture = element("image", href=address, x=0, y=0, width=places.columns, height=places.rows)
    return _framed(places, highest, label, picture)


def _framed(places: AttentionMap, highest: int, label: str, *content: Markup) -> Markup:
    row, column = divmod(places.cells[places.instances.index(highest)], places.columns)
    return element(
        "svg",
        element("title", label),
        *content,
        # Twice, dark on light: seen on tissue, on glass and on every shade.
        *(element("rect", x=column, y=row, width=1, height=1, class_=each) for each in ("casing", "highest")),
        # A margin of half a square, so that the outline at an edge is seen.
        viewBox=f"-0.5 -0.5 {places.columns + 1} {places.rows + 1}",
        role="img",
        aria_label=label,
        class_="chart attention",
    )
