"""The section on differences between models: a forest of intervals, wins and losses, ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meddistill.evaluation.base.records import Comparison
from meddistill.evaluation.base.results import MEAN_TASK, Difference, Results
from meddistill.evaluation.statistics.paired import min_p
from meddistill.report.formatting import (
    DASH,
    SEEN,
    number,
    plain_name,
    plural,
    probability,
    signed,
    signed_between,
)
from meddistill.report.models import ModelStyle
from meddistill.report.svg import Axis, axis_over, drawing, element, line, short, text, upright_grid

_WIDTH, _HEAD, _ROW, _BETWEEN = 1040.0, 30.0, 19.0, 13.0
_LONGEST = 26


@dataclass(frozen=True, kw_only=True)
class RankRow:
    """A model's mean rank over tasks, and how often it ranks first on the mean of resampled patients."""

    name: str
    css: str
    rank: str
    first: str


@dataclass(frozen=True, kw_only=True)
class DifferencesSection:
    """What the section shows; `reference` is the model that all others are compared with.

    `tallies` has every other model's comparison over all tasks, with the model's CSS class.
    """

    reference: str
    sentence: str
    forest: Markup
    tallies: tuple[tuple[Comparison, str], ...]
    ranks: tuple[RankRow, ...]
    rank_words: str
    is_mcnemar: bool


def differences(results: Results, styles: Sequence[ModelStyle]) -> DifferencesSection | None:
    """The first student (or first model) against all others; None where nothing is compared."""
    if not results.differences:
        return None
    reference = results.differences[0].model
    rows = [row for row in results.differences if row.model == reference]
    css = {style.name: style.css for style in styles}
    order = [style.name for style in styles if style.name != reference]
    alpha = 1 - results.level
    return DifferencesSection(
        reference=reference,
        sentence=_sentence(rows, alpha, least=min_p(results.resamples)),
        forest=forest_by_task(rows, order, css, alpha=alpha),
        tallies=tuple(
            (row, css[name])
            for name in order
            for row in results.comparisons
            if (row.model, row.other) == (reference, name)
        ),
        ranks=_ranks(results, styles),
        rank_words=_rank_words(results),
        is_mcnemar=any(row.p_mcnemar is not None for row in rows),
    )


def _sentence(rows: Sequence[Difference], alpha: float, *, least: float) -> str:
    tasks = [row for row in rows if row.task != MEAN_TASK]
    sure = [row for row in tasks if is_sure(row, alpha)]
    better = sum(row.value > 0 for row in sure)
    if len(tasks) * least > alpha:
        return (
            f"With so many differences ({len(tasks)}) and so few resamples none on a single task could stand "
            "after Holm's correction for their number: read the intervals, or raise bootstrap.resamples."
        )
    return (
        f"Of {plural(len(tasks), 'difference')} on single tasks {len(sure)} stand after Holm's correction "
        f"for their number: {better} for it and {len(sure) - better} against it."
    )


def is_sure(row: Difference, alpha: float) -> bool:
    """Whether a difference stands after the correction for the number of tests."""
    return row.p_holm is not None and row.p_holm < alpha


def forest_by_task(
    rows: Sequence[Difference], order: Sequence[str], css: Mapping[str, str], *, alpha: float
) -> Markup:
    """Every difference with its interval, tasks one under the other; full marks stand after correction."""
    bounds = [value for row in rows for value in (row.value, row.low, row.high) if value is not None]
    axis = axis_over(bounds, include=[0.0], start=350.0, end=760.0)
    tasks = list(dict.fromkeys(row.task for row in rows))
    parts: list[Markup] = []
    y = _HEAD
    for task in tasks:
        by_other = {row.other: row for row in rows if row.task == task}
        shown = [by_other[name] for name in order if name in by_other]
        parts.append(text(0, y + 13, short(plain_name(task), _LONGEST), class_="strong"))
        for row in shown:
            parts += _forest_row(axis, y + _ROW / 2, row, css.get(row.other, ""), alpha=alpha)
            y += _ROW
        y += _BETWEEN
    frame = _frame(axis, y - _BETWEEN, rows[0].model)
    label = "Difference of the main metric from every other model on every task, with intervals"
    return drawing(_WIDTH, y + 16, *frame, *parts, label=label)


def _frame(axis: Axis, bottom: float, model: str) -> list[Markup]:
    parts = [
        text(axis.start, 14, "other model is better", class_="axis-title"),
        text(axis.end, 14, f"{short(model, _LONGEST)} is better", text_anchor="end", class_="axis-title"),
        text(780, 14, "difference (interval)", class_="axis-title"),
        text(_WIDTH - 4, 14, "p, Holm", text_anchor="end", class_="axis-title"),
    ]
    parts += upright_grid(axis, _HEAD - 6, bottom, about=6, is_signed=True)
    parts.append(line((axis(0.0), _HEAD - 6), (axis(0.0), bottom), class_="reference"))
    return parts


def _forest_row(axis: Axis, y: float, row: Difference, css: str, *, alpha: float) -> list[Markup]:
    mark = SEEN if row.seen else ""
    pieces = []
    if row.low is not None and row.high is not None:
        pieces.append(line((axis(row.low), y), (axis(row.high), y), class_="whisker"))
    kind = "dot" if is_sure(row, alpha) else "ring"
    pieces.append(element("circle", cx=axis(row.value), cy=y, r=4.5, class_=kind))
    interval = signed_between(row.low, row.high, 2)
    words = f"{signed(row.value)}  ({interval})" if interval else signed(row.value)
    return [
        text(338, y + 4, short(row.other, _LONGEST) + mark, text_anchor="end", class_="small"),
        element("g", element("title", f"{row.other}: {words}"), *pieces, class_=css),
        text(780, y + 4, words, class_="figure small"),
        text(_WIDTH - 4, y + 4, probability(row.p_holm), text_anchor="end", class_="figure small"),
    ]


def _ranks(results: Results, styles: Sequence[ModelStyle]) -> tuple[RankRow, ...]:
    means = results.ranking.mean_ranks if results.ranking else {}
    first = {place.model: place.first for place in results.places if place.task == MEAN_TASK}
    rows = [
        RankRow(
            name=style.name,
            css=style.css,
            rank=number(means.get(style.name), 2),
            first=f"{first[style.name]:.0%}" if style.name in first else DASH,
        )
        for style in styles
        if style.name in means or style.name in first
    ]
    return tuple(sorted(rows, key=lambda row: means.get(row.name, float("inf"))))


def _rank_words(results: Results) -> str:
    ranking = results.ranking
    if ranking is None:
        return ""
    words = f"Mean ranks over {plural(len(ranking.tasks), 'task')}"
    if ranking.p_value is not None and ranking.critical_difference is not None:
        apart = number(ranking.critical_difference, 2)
        words += (
            f". Friedman test: χ² = {number(ranking.statistic, 1)}, p {equals(ranking.p_value)}; two models "
            f"differ at {ranking.alpha:g} where their mean ranks are more than {apart} apart (by "
            "Nemenyi’s test, which allows for all pairs being compared)"
        )
    if ranking.note:
        words += f". {ranking.note[0].upper()}{ranking.note[1:]}"
    own = {model.name for model in results.models if model.tasks}
    left_out = [name for name in ranking.left_out if name not in own]
    if left_out:
        words += f". Without {', '.join(left_out)}, which cannot do all of them"
    return f"{words}."


def equals(value: float) -> str:
    """`= 0.031`, `< 0.001`."""
    words = probability(value)
    return f"< {words[1:]}" if words.startswith("<") else f"= {words}"
