"""The report's pictures, drawn as SVG: no script, sharp in print, colours from the style sheet."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meddistill.evaluation.base.results import AnyRole
from meddistill.report.formatting import between, number, shade_of, signed, signed_between
from meddistill.report.svg import (
    Axis,
    axis_over,
    drawing,
    element,
    level_grid,
    line,
    polyline,
    short,
    text,
    ticks,
    to_ticks,
    upright_grid,
)

WIDTH = 1040.0
_ROW = 34.0
_HEAD = 34.0
_FOOT = 30.0
_BAR = 9.0
_GAP = 2.0
_LETTERS = 15  # in a line beside bars


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value with its interval, to be drawn in a model's colour; the `lead` stands out."""

    label: str
    css: str
    role: AnyRole
    value: float | None
    low: float | None = None
    high: float | None = None
    lead: bool = False

    @property
    def extent(self) -> list[float]:
        """All numbers of it."""
        return [each for each in (self.value, self.low, self.high) if each is not None]


def forest(scores: Sequence[Mark], differences: Mapping[str, Mark], *, label: str, title: str) -> Markup:
    """Left: every model's score with interval. Right, under `title`: the lead's difference from it."""
    values = [value for mark in scores for value in mark.extent]
    gaps = [value for mark in differences.values() for value in mark.extent]
    left = axis_over(values, start=190.0, end=480.0)
    right = axis_over(gaps, include=[0.0] if gaps else [], start=650.0, end=868.0)
    bottom = _HEAD + _ROW * len(scores)
    lead = next((mark.value for mark in scores if mark.lead), None)
    parts = [*_frame(left, bottom, zero=lead, title="Score")]
    if differences:
        parts += _frame(right, bottom, zero=0.0, title=title, is_signed=True)
    for index, mark in enumerate(scores):
        y = _HEAD + _ROW * (index + 0.5)
        weight = "strong" if mark.lead else None
        parts.append(text(178, y + 4, short(mark.label, 26), text_anchor="end", class_=weight))
        parts.append(_whisker(left, y, mark))
        interval = between(mark.low, mark.high, 2)
        words = f"{number(mark.value)}  ({interval})" if interval else number(mark.value)
        parts.append(text(492, y + 4, words, class_="figure"))
        gap = differences.get(mark.label)
        if gap is not None and gap.value is not None:
            parts.append(_whisker(right, y, gap))
            words = f"{signed(gap.value)}  ({signed_between(gap.low, gap.high, 2)})"
            parts.append(text(880, y + 4, words, class_="figure small"))
    return drawing(WIDTH, bottom + _FOOT, *parts, label=label)


def _frame(
    axis: Axis, bottom: float, *, zero: float | None, title: str, is_signed: bool = False
) -> list[Markup]:
    parts = [text(axis.start, 16, title, class_="axis-title")]
    parts += upright_grid(axis, _HEAD - 6, bottom, about=4, is_signed=is_signed)
    if zero is not None:
        parts.append(line((axis(zero), _HEAD - 6), (axis(zero), bottom), class_="reference"))
    return parts


def _whisker(axis: Axis, y: float, mark: Mark) -> Markup:
    if mark.value is None:
        return text(axis.start, y + 4, "not applicable", class_="tick")
    parts = []
    if mark.low is not None and mark.high is not None:
        parts.append(line((axis(mark.low), y), (axis(mark.high), y), class_="whisker"))
    x = axis(mark.value)
    if mark.role == "student":
        parts.append(element("circle", cx=x, cy=y, r=6.5, class_="dot"))
    elif mark.role in ("frozen", "baseline"):
        parts.append(element("circle", cx=x, cy=y, r=5.5, class_="ring"))
    elif mark.role == "ensemble":
        points = f"{x:.1f},{y - 7:.1f} {x + 7:.1f},{y:.1f} {x:.1f},{y + 7:.1f} {x - 7:.1f},{y:.1f}"
        parts.append(element("polygon", points=points, class_="dot"))
    else:
        parts.append(element("rect", x=x - 5, y=y - 5, width=10, height=10, class_="dot"))
    return element("g", *parts, class_=mark.css)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars that stand together: one modality with the marks of all models, and a line under its name."""

    title: str
    note: str
    marks: tuple[Mark, ...]


def grouped_bars(groups: Sequence[Group], *, label: str) -> Markup:
    """Two columns of groups of horizontal bars from 0 to 1, with intervals."""
    columns = (groups[: (len(groups) + 1) // 2], groups[(len(groups) + 1) // 2 :])
    parts: list[Markup] = []
    heights = [0.0]
    for column, members in enumerate(columns):
        left = column * (WIDTH / 2 + 10)
        axis = Axis(low=0.0, high=1.0, start=left + 118, end=left + 460)
        y = 6.0
        for group in members:
            parts += _bar_group(group, axis, y, left)
            y += max(len(group.marks) * (_BAR + _GAP), 15.0 * (len(_wrapped(group.title)) + 1)) + 18
        if members:
            parts[0:0] = _bar_axis(axis, y - 10)
        heights.append(y)
    return drawing(WIDTH, max(heights) + 16, *parts, label=label)


def _bar_axis(axis: Axis, bottom: float) -> list[Markup]:
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(line((axis(value), 0), (axis(value), bottom), class_="grid"))
        parts.append(text(axis(value), bottom + 16, f"{value:g}", text_anchor="middle", class_="tick"))
    return parts


def _bar_group(group: Group, axis: Axis, top: float, left: float) -> list[Markup]:
    lines_of = _wrapped(group.title)
    parts = [
        text(left + 106, top + 14 + 15 * place, words, text_anchor="end", class_="strong")
        for place, words in enumerate(lines_of)
    ]
    note = top + 14 + 15 * len(lines_of)
    parts.append(text(left + 106, note, group.note, text_anchor="end", class_="tick"))
    for index, mark in enumerate(group.marks):
        y = top + 3 + index * (_BAR + _GAP)
        if mark.value is None:
            continue
        width = max(axis.clip(mark.value) - axis.start, 1.0)
        words = f"{mark.label}: {number(mark.value)} ({between(mark.low, mark.high)})"
        bar = element(
            "rect", element("title", words), x=axis.start, y=y, width=width, height=_BAR, class_="bar"
        )
        pieces = [bar]
        if mark.low is not None and mark.high is not None:
            middle = y + _BAR / 2
            ends = (axis.clip(mark.low), middle), (axis.clip(mark.high), middle)
            pieces.append(line(*ends, class_="bar-whisker"))
        parts.append(element("g", *pieces, class_=mark.css))
        if mark.lead:
            parts.append(text(axis.end + 12, y + _BAR, number(mark.value, 2), class_="figure"))
    return parts


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of a chart: values a step, None where there is none."""

    label: str
    css: str
    values: tuple[float | None, ...]


_CURVE_WIDTH, _CURVE_HEIGHT = 505.0, 250.0


def lines(steps: Sequence[int], series: Sequence[Series], *, label: str, zero: bool = False) -> Markup:
    """Lines over training steps."""
    values = [value for each in series for value in each.values if value is not None]
    last = max(max(steps), min(steps) + 1)
    x = Axis(low=float(min(steps)), high=float(last), start=52.0, end=_CURVE_WIDTH - 12)
    y = to_ticks(axis_over(values, include=[0.0] if zero else [], start=_CURVE_HEIGHT - 34, end=10.0), 4)
    parts = _curve_axes(x, y)
    for each in series:
        runs = _runs(steps, each.values)
        drawn = [polyline([(x(step), y(value)) for step, value in run], class_="curve") for run in runs]
        dots = [
            element("circle", cx=x(run[0][0]), cy=y(run[0][1]), r=2.5, class_="dot")
            for run in runs
            if len(run) == 1
        ]
        parts.append(element("g", element("title", each.label), *drawn, *dots, class_=each.css))
    return drawing(_CURVE_WIDTH, _CURVE_HEIGHT, *parts, label=label)


def _curve_axes(x: Axis, y: Axis) -> list[Markup]:
    parts = level_grid(x, y)
    parts.extend(
        text(x(value), y.start + 18, f"{value:.0f}", text_anchor="middle", class_="tick")
        for value in ticks(x.low, x.high, 5)
        if value == int(value)
    )
    parts.append(line((x.start, y.start), (x.end, y.start), class_="axis"))
    parts.append(text(x.end, y.start + 32, "optimiser steps", text_anchor="end", class_="tick"))
    return parts


def _runs(steps: Sequence[int], values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches without gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for step, value in zip(steps, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((step, value))
    return [run for run in runs if run]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A cell of a heat map: a value from 0 to 1, and the words that a pointer over it shows."""

    value: float
    words: str


_SIDE, _NAMES = 46.0, 132.0


def tiles(names: Sequence[tuple[str, str]], cells: Sequence[Sequence[Tile | None]], *, label: str) -> Markup:
    """A square of values from 0 (pale) to 1 (dark); `names` are (label, CSS class) of rows and columns."""
    size = len(names) * _SIDE
    parts = []
    for place, (name, css) in enumerate(names):
        middle = _SIDE * (place + 0.5)
        swatch = element("rect", x=_NAMES - 16, y=_NAMES + middle - 5, width=10, height=10, class_="bar")
        parts.append(element("g", swatch, class_=css))
        parts.append(text(_NAMES - 24, _NAMES + middle + 4, short(name, 16), text_anchor="end"))
        x, y = _NAMES + middle + 4, _NAMES - 12
        parts.append(text(x, y, short(name, 16), transform=f"rotate(-50 {x:.1f} {y:.1f})"))
    for row, line_of in enumerate(cells):
        for column, cell in enumerate(line_of):
            parts += _tile(cell, _NAMES + _SIDE * column, _NAMES + _SIDE * row)
    return drawing(_NAMES + size + 60, _NAMES + size + 2, *parts, label=label)


def _tile(cell: Tile | None, x: float, y: float) -> list[Markup]:
    box = {"x": x + 1, "y": y + 1, "width": _SIDE - 2, "height": _SIDE - 2}
    if cell is None:
        return [element("rect", **box, class_="tile-none")]
    shade = shade_of(cell.value)
    square = element("rect", element("title", cell.words), **box, class_=f"tile-{shade}")
    words = text(
        x + _SIDE / 2, y + _SIDE / 2 + 4, number(cell.value, 2), text_anchor="middle", class_=f"on-{shade}"
    )
    return [square, words]


def _wrapped(words: str) -> list[str]:
    """Lines that fit beside bars."""
    return textwrap.wrap(words, _LETTERS, break_on_hyphens=True) or [""]
