"""The section on training: every stage's log, drawn over its steps."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from meddistill.report.charts import Series, lines
from meddistill.report.data import Curves
from meddistill.report.models import ModelStyle

_MOST_POINTS: Final = 240
_MOST_PAIRS: Final = 6
_COSINE: Final = "gradients/cosine/"
_SPREAD: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "least": min,
    "median": statistics.median,
    "greatest": max,
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawn chart with its title and legend of (label, CSS class)."""

    title: str
    chart: Markup
    legend: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The charts of one training stage."""

    name: str
    method: str
    plots: tuple[Plot, ...]


def stages(curves: Sequence[Curves], styles: Sequence[ModelStyle]) -> tuple[Stage, ...]:
    """Loss and its parts, teachers' weights, agreement and gradients, for every stage that left a log."""
    css = {style.name: style.css for style in styles if style.role == "teacher"}
    drawn_stages = []
    for each in curves:
        teachers = list(
            dict.fromkeys(name.split("/")[1] for name in each.series if name.startswith("teacher/"))
        )
        parts = [name for name in each.series if name.startswith("loss/")]
        plots = [_plot(each, "Loss", {"loss": ("total", "c-student")})]
        if parts:
            named = {
                name: (name.removeprefix("loss/"), f"c-p{index % 6}") for index, name in enumerate(parts)
            }
            plots.append(_plot(each, "Parts of the loss, before their weights", named))
        for key, title in (
            ("weight", "Mean weight of each teacher"),
            ("agreement", "Cosine with each teacher"),
        ):
            named = {f"teacher/{name}/{key}": (name, css.get(name, "c-t8")) for name in teachers}
            plots.append(_plot(each, title, named, zero=key == "weight"))
        plots += _gradients(each)
        drawn = tuple(plot for plot in plots if plot is not None)
        if drawn:
            drawn_stages.append(Stage(name=each.stage, method=each.method, plots=drawn))
    return tuple(drawn_stages)


def _gradients(curves: Curves) -> tuple[Plot | None, ...]:
    """How far the teachers agree on where the student should go, where the weighting looked at it.

    Of many pairs of teachers the least, middle and greatest cosine; each by itself would hide the others.
    """
    pairs = [name for name in curves.series if name.startswith(_COSINE)]
    steps = list(zip(*(curves.series[name] for name in pairs), strict=True))
    shown = {name: name.removeprefix(_COSINE).replace("/", ", ") for name in pairs}
    if len(pairs) > _MOST_PAIRS:
        columns = [[value for value in step if value is not None] for step in steps]
        spread = {
            name: tuple(place(each) if each else None for each in columns) for name, place in _SPREAD.items()
        }
        curves, shown = replace(curves, series={**curves.series, **spread}), {name: name for name in spread}
    named = {name: (label, f"c-p{index}") for index, (name, label) in enumerate(shown.items())}
    conflict = {"gradients/conflict": ("share of pairs", "c-p0")}
    return (
        _plot(curves, "Cosine between the gradients of two teachers at the student's embeddings", named),
        _plot(curves, "Pairs of teachers in conflict (cosine below 0)", conflict, zero=True),
    )


def _plot(
    curves: Curves, title: str, named: Mapping[str, tuple[str, str]], *, zero: bool = False
) -> Plot | None:
    steps = _thinned_steps(curves.steps)
    series = [
        Series(label=label, css=css, values=_thinned(curves.series[name]))
        for name, (label, css) in named.items()
        if any(value is not None for value in curves.series.get(name, ()))
    ]
    if not series or not steps:
        return None
    label = f"{title} over the steps of stage {curves.stage}"
    return Plot(
        title=title,
        chart=lines(steps, series, label=label, zero=zero),
        legend=tuple((each.label, each.css) for each in series),
    )


def _stride(length: int) -> int:
    return -(-length // _MOST_POINTS) if length else 1


def _thinned_steps(steps: Sequence[int]) -> tuple[int, ...]:
    stride = _stride(len(steps))
    return tuple(steps[min(start + stride, len(steps)) - 1] for start in range(0, len(steps), stride))


def _thinned(values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Means of stretches, so that a long log stays a small picture."""
    stride = _stride(len(values))
    means: list[float | None] = []
    for start in range(0, len(values), stride):
        known = [value for value in values[start : start + stride] if value is not None]
        means.append(sum(known) / len(known) if known else None)
    return tuple(means)
