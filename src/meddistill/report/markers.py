"""Points and keys of curves: a shape beside colour and dash, so that colour alone distinguishes no curve."""

import re
from typing import Final

from markupsafe import Markup

from meddistill.report.svg import element, polyline

_CORNERS: Final = (
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.3), (1.2, -0.9), (-1.2, -0.9)),
)
_WIDTH, _HEIGHT = 30.0, 12.0


def marker(css: str, x: float, y: float, radius: float, *content: Markup) -> Markup:
    """A point in the shape that belongs to a model's CSS class: square, triangle, diamond, ... by its number.

    A class without a number (the student's, the teacher mean's) has a disc.
    """
    number = re.search(r"\bc-t(\d+)", css)
    if number is None:
        return element("circle", *content, cx=x, cy=y, r=radius, class_="point")
    corners = _CORNERS[int(number[1]) % len(_CORNERS)]
    points = " ".join(f"{x + radius * across:.1f},{y + radius * down:.1f}" for across, down in corners)
    return element("polygon", *content, points=points, class_="point")


def line_key(css: str) -> Markup:
    """A short piece of a model's curve with its point, for a legend."""
    middle = _HEIGHT / 2
    line = polyline([(0.0, middle), (_WIDTH, middle)], class_="curve")
    inner = element("g", line, marker(css, _WIDTH / 2, middle, 3.4), class_=css)
    return element("svg", inner, viewBox="0 0 30 12", class_="line-key", aria_hidden="true")
