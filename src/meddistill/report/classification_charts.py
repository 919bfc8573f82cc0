"""Pictures of classifications: ROC curves, reliability, confusion, scores over the number of labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import CALIBRATION_BINS, CalibrationCurve
from meddistill.report.formatting import number, shade_of
from meddistill.report.markers import marker
from meddistill.report.svg import Axis, axis_over, drawing, element, level_grid, line, polyline, short, text

_SIDE, _LEFT, _TOP = 330.0, 46.0, 10.0
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_FIRM: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve in a model's colour through points of the unit square."""

    label: str
    css: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


def roc_chart(curves: Sequence[Line], *, label: str, small: bool = False) -> Markup:
    """Sensitivity over 1 - specificity; the diagonal is guessing. Small ones have ticks at the ends only."""
    side = 210.0 if small else _SIDE
    x = Axis(low=0.0, high=1.0, start=_LEFT, end=side - 10)
    y = Axis(low=0.0, high=1.0, start=side - 42, end=_TOP)
    parts = _square(x, y, marks=(0.0, 0.5, 1.0) if small else _QUARTERS)
    parts.append(line((x(0), y(0)), (x(1), y(1)), class_="reference"))
    parts += [_drawn(each, x, y) for each in reversed(curves)]
    parts += _titles(x, y, "1 − specificity", "sensitivity", below=y.start + 34)
    return drawing(side, side, *parts, label=label)


def _square(x: Axis, y: Axis, *, marks: Sequence[float]) -> list[Markup]:
    parts = []
    for value in marks:
        parts.append(line((x(value), y(0)), (x(value), y(1)), class_="grid"))
        parts.append(line((x(0), y(value)), (x(1), y(value)), class_="grid"))
        parts.append(text(x(value), y(0) + 16, f"{value:g}", text_anchor="middle", class_="tick"))
        parts.append(text(x(0) - 7, y(value) + 4, f"{value:g}", text_anchor="end", class_="tick"))
    return parts


def _titles(x: Axis, y: Axis, across: str, up: str, *, below: float) -> list[Markup]:
    middle = (y.start + y.end) / 2
    return [
        text((x.start + x.end) / 2, below, across, text_anchor="middle", class_="tick"),
        text(11, middle, up, text_anchor="middle", class_="tick", transform=f"rotate(-90 11 {middle:.1f})"),
    ]


def _drawn(curve: Line, x: Axis, y: Axis) -> Markup:
    path = polyline([(x(across), y(up)) for across, up in curve.points], class_="curve")
    style = "stroke-dasharray: 5 4" if curve.dashed else None
    return element("g", element("title", curve.label), path, class_=curve.css, style=style)


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The calibration curve of one model, and how it is drawn."""

    label: str
    css: str
    curve: CalibrationCurve
    dashed: bool = False

    @property
    def points(self) -> list[tuple[float, float, int]]:
        """Mean confidence, share of right rows, and number of rows of every bin."""
        return list(zip(self.curve.confidence, self.curve.accuracy, self.curve.counts, strict=True))


def reliability_chart(curves: Sequence[Bins], *, label: str) -> Markup:
    """Share of right rows over confidence, and below how many rows of the first curve have which confidence.

    Points grow with the rows behind them; the line leaves out bins with less than 2% of the rows, or fewer
    than five. Above the diagonal a model is underconfident, below it overconfident.
    """
    x = Axis(low=0.0, high=1.0, start=_LEFT, end=_SIDE - 10)
    y = Axis(low=0.0, high=1.0, start=_SIDE - 112, end=_TOP)
    floor = _SIDE - 38
    parts = _square(x, y, marks=_QUARTERS)
    parts.append(line((x(0), y(0)), (x(1), y(1)), class_="reference"))
    for each in reversed(curves):
        total = sum(each.curve.counts)
        firm = tuple((across, up) for across, up, rows in each.points if rows >= _FIRM * total)
        parts.append(_drawn(Line(label=each.label, css=each.css, points=firm, dashed=each.dashed), x, y))
        dots = [
            element(
                "circle",
                element("title", f"{each.label}: confidence {across:.2f}, right {up:.2f}, {count} rows"),
                cx=x(across),
                cy=y(up),
                r=2.2 + 4 * math.sqrt(count / total),
                class_="ring" if each.dashed else "dot",
            )
            for across, up, count in each.points
        ]
        parts.append(element("g", *dots, class_=each.css))
    parts += _histogram(curves[0], x, floor, 42.0)
    parts += _titles(x, y, "confidence", "share right", below=floor + 18)
    parts.append(text(x.start - 7, floor - 15, "rows", text_anchor="end", class_="tick"))
    return drawing(_SIDE, _SIDE - 14, *parts, label=label)


def _histogram(bins: Bins, x: Axis, floor: float, height: float) -> list[Markup]:
    most = max(bins.curve.counts)
    bars = []
    for confidence, _, count in bins.points:
        place = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1) / CALIBRATION_BINS
        tall = max(height * count / most, 1.0)
        width = x(place + 1 / CALIBRATION_BINS) - x(place) - 1.5
        bars.append(
            element(
                "rect",
                element("title", f"{count} rows"),
                x=x(place) + 0.75,
                y=floor - tall,
                width=width,
                height=tall,
                class_="bar",
            )
        )
    return [
        element("g", *bars, class_=bins.css, opacity="0.55"),
        line((x(0), floor), (x(1), floor), class_="axis"),
    ]


def confusion_chart(classes: Sequence[str], counts: Sequence[Sequence[float]], *, label: str) -> Markup:
    """True classes in rows, given ones in columns; shade is the share of the row, figures are rows."""
    longest = max(len(short(name, 16)) for name in classes)
    names = min(20.0 + 7.0 * longest, 130.0)
    cell = max(min((_SIDE + 30 - names) / len(classes), 58.0), 22.0)
    top = 20.0 + min(6.0 * longest, 92.0)
    parts = [text(0, top - 8, "true ↓  given →", class_="tick")]
    for place, name in enumerate(classes):
        middle = cell * (place + 0.5)
        parts.append(text(names - 8, top + middle + 4, short(name, 16), text_anchor="end", class_="small"))
        x, y = names + middle + 3, top - 7
        parts.append(text(x, y, short(name, 16), transform=f"rotate(-45 {x:.1f} {y:.1f})", class_="small"))
    for row, line_of in enumerate(counts):
        total = sum(line_of)
        for column, count in enumerate(line_of):
            share = count / total if total else 0.0
            words = (
                f"{classes[row]} given as {classes[column]}: {_rows(count)} of {_rows(total)} ({share:.0%})"
            )
            parts += _cell(
                names + cell * column, top + cell * row, cell, share=share, count=count, words=words
            )
    width = names + cell * len(classes)
    return drawing(max(width + 40, _SIDE), top + cell * len(classes) + 4, *parts, label=label)


def _cell(x: float, y: float, side: float, *, share: float, count: float, words: str) -> list[Markup]:
    shade = shade_of(share)
    box = {"x": x + 0.75, "y": y + 0.75, "width": side - 1.5, "height": side - 1.5, "rx": 2}
    parts = [element("rect", element("title", words), **box, class_=f"tile-{shade}")]
    figure = _rows(count)
    if 7.2 * len(figure) < side:
        place = {"text_anchor": "middle", "class_": f"small on-{shade}{'' if count else ' zero'}"}
        parts.append(text(x + side / 2, y + side / 2 + 4.5, figure, **place))
    return parts


def _rows(count: float) -> str:
    return f"{count:.1f}".removesuffix(".0")


@dataclass(frozen=True, kw_only=True)
class ShotPoint:
    """A score from some images a class (None: all training rows), with its interval."""

    shots: int | None
    value: float
    low: float | None = None
    high: float | None = None


def shots_chart(series: Sequence[tuple[str, str, Sequence[ShotPoint]]], *, label: str, metric: str) -> Markup:
    """Scores over images a class, on a scale of doublings; the first of `series` (label, css, points) has
    intervals.
    """
    width, height = 690.0, 280.0
    shots = sorted({point.shots for _, _, points in series for point in points if point.shots is not None})
    low, high = math.log2(shots[0]), math.log2(shots[-1])
    x = Axis(low=low - 0.3, high=max(high, low + 1) + 1.6, start=52.0, end=width - 12)
    whole = x(max(high, low + 1) + 1.1)
    extents = [
        value
        for index, (_, _, points) in enumerate(series)
        for point in points
        for value in ((point.value, point.low, point.high) if index == 0 else (point.value,))
        if value is not None
    ]
    y = axis_over(extents, start=height - 44, end=_TOP)
    parts = level_grid(x, y)
    tick = {"text_anchor": "middle", "class_": "tick"}
    parts += [text(x(math.log2(each)), y.start + 18, str(each), **tick) for each in shots]
    parts.append(text(whole, y.start + 18, "all", **tick))
    parts.append(text((x.start + x.end) / 2, y.start + 36, "training images a class", **tick))
    for index, (name, css, points) in reversed(list(enumerate(series))):
        placed = [(whole if each.shots is None else x(math.log2(each.shots)), each) for each in points]
        parts.append(_shot_line(name, css, placed, y, whiskers=index == 0, metric=metric))
    return drawing(width, height, *parts, label=label)


def _shot_line(
    name: str, css: str, placed: Sequence[tuple[float, ShotPoint]], y: Axis, *, whiskers: bool, metric: str
) -> Markup:
    few = [(x, y(each.value)) for x, each in placed if each.shots is not None]
    parts = [polyline(few, class_="curve")]
    for x, each in placed:
        if whiskers and each.low is not None and each.high is not None:
            parts.append(line((x, y(each.low)), (x, y(each.high)), class_="whisker"))
        train_size = "all images" if each.shots is None else f"{each.shots} a class"
        title = element("title", f"{name}, {train_size}: {metric} {number(each.value)}")
        parts.append(marker(css, x, y(each.value), 4.5 if whiskers else 3.4, title))
    return element("g", *parts, class_=css)
