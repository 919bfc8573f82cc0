"""The section on groups of patients: every group's score, the worst one, the gap."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meddistill.evaluation.base.records import GroupGap, GroupScore
from meddistill.evaluation.base.results import Results
from meddistill.report.charts import Group, grouped_bars
from meddistill.report.formatting import DASH, between, metric, number, plain_name, plural, units_of
from meddistill.report.models import ModelStyle
from meddistill.report.scores import mark_of


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """The gap of one model in one group, with the worst label and its score."""

    model: str
    css: str
    metric: str
    worst: str
    lowest: str
    gap: str
    interval: str
    note: str
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GroupPanel:
    """One group of one task: bars of all models by label, and the gaps; neither with fewer than two scores.

    `hidden` says what is counted and not compared.
    """

    title: str
    chart: Markup | None
    rows: tuple[GapRow, ...]
    hidden: str


def panels(results: Results, styles: Sequence[ModelStyle]) -> tuple[GroupPanel, ...]:
    """A panel for every group with several labels, in the order of the results."""
    return tuple(
        _panel(results, styles, task, group)
        for task, group in _places(results)
        if len(_labels(results, task, group)) > 1
    )


def single_labels(results: Results) -> str:
    """`findings by modality (ct), ...`: the groups of one label alone, where nothing is compared."""
    labels_of = {place: _labels(results, *place) for place in _places(results)}
    return ", ".join(
        f"{plain_name(task)} by {plain_name(group)} ({''.join(labels) or 'not known'})"
        for (task, group), labels in labels_of.items()
        if len(labels) < 2
    )


def _places(results: Results) -> list[tuple[str, str]]:
    return list(dict.fromkeys((gap.task, gap.group) for gap in results.gaps))


def _labels(results: Results, task: str, group: str) -> list[str]:
    all_labels = (row.label for row in results.groups if (row.task, row.group) == (task, group) and row.main)
    return [label for label in dict.fromkeys(all_labels) if label]


def _panel(results: Results, styles: Sequence[ModelStyle], task: str, group: str) -> GroupPanel:
    scores = [row for row in results.groups if (row.task, row.group) == (task, group)]
    gaps = [row for row in results.gaps if (row.task, row.group) == (task, group)]
    main = [row for row in scores if row.main]
    name = metric(main[0].metric)
    scored = list(dict.fromkeys(row.label for row in main if row.value is not None))
    compared = len(scored) > 1
    return GroupPanel(
        title=f"{plain_name(task)}, {name}, by {plain_name(group)}",
        chart=_bars(main, styles, group) if compared else None,
        rows=tuple(
            _gap(results, scores, gap, style)
            for style in (styles if compared else ())
            for gap in gaps
            if gap.model == style.name
        ),
        hidden="; ".join(part for part in (_alone(main, scored, styles), _hidden(main, styles)) if part),
    )


def _alone(rows: Sequence[GroupScore], scored: Sequence[str], styles: Sequence[ModelStyle]) -> str:
    """What the models score on the only label that can be scored."""
    if len(scored) != 1:
        return ""
    by_model = {row.model: row for row in rows if row.label == scored[0] and row.value is not None}
    figures = [
        f"{style.name} {number(by_model[style.name].value)}" for style in styles if style.name in by_model
    ]
    return f"{scored[0]} is the only group large enough to be scored ({', '.join(figures)})"


def _bars(rows: Sequence[GroupScore], styles: Sequence[ModelStyle], group: str) -> Markup:
    labels = dict.fromkeys(row.label for row in rows if row.value is not None)
    by_label = {(row.model, row.label): row for row in rows}
    worst = _clearly_worst(rows, styles)
    groups = []
    for label in labels:
        mine = [(style, by_label[style.name, label]) for style in styles if (style.name, label) in by_label]
        marks = tuple(mark_of(style, row) for style, row in mine)
        shown = next(row for row in rows if row.label == label and row.value is not None)
        title = f"▼ {label}" if label == worst else label
        groups.append(Group(title=title, note=f"n = {units_of(shown.n, shown.family)}", marks=marks))
    return grouped_bars(groups, label=f"Main metric by {group}, one bar for each model")


def _clearly_worst(rows: Sequence[GroupScore], styles: Sequence[ModelStyle]) -> str | None:
    """The worst label of the first model, where its interval ends below that of the best one."""
    first = next((style.name for style in styles if any(row.model == style.name for row in rows)), "")
    mine = [row for row in rows if row.model == first and row.value is not None]
    worst = next((row for row in mine if row.worst), None)
    best = max(mine, key=lambda row: row.value or 0.0, default=None)
    if worst is None or best is None or worst.high is None or best.low is None:
        return None
    return worst.label if worst.high < best.low else None


def _gap(results: Results, scores: Sequence[GroupScore], gap: GroupGap, style: ModelStyle) -> GapRow:
    mine = {row.label: row for row in scores if (row.model, row.metric) == (gap.model, gap.metric)}
    worst = mine.get(gap.worst) if gap.value else None
    lowest = DASH
    if worst is not None:
        interval = between(worst.low, worst.high, 2)
        lowest = f"{number(worst.value)} ({interval})" if interval else number(worst.value)
    return GapRow(
        model=style.name,
        css=style.css,
        metric=metric(gap.metric),
        worst=gap.worst if gap.value else DASH,
        lowest=lowest,
        gap=number(gap.value),
        interval=between(gap.low, gap.high),
        note=gap.note or (worst.note if worst is not None else ""),
        seen=results.seen(gap.model, gap.task),
    )


def _hidden(rows: Sequence[GroupScore], styles: Sequence[ModelStyle]) -> str:
    """Labels that are counted and not scored, as the first model has them."""
    first = next((style.name for style in styles if any(row.model == style.name for row in rows)), "")
    mine = [row for row in rows if row.model == first]
    parts = [_counted(row) for row in mine if row.value is None]
    notes = [f"{row.label}: {row.note}" for row in mine if row.value is not None and row.note]
    return "; ".join([*parts, *notes])


def _counted(row: GroupScore) -> str:
    units, patients = units_of(row.n, row.family), plural(row.patients, "patient")
    return (
        f"{row.label or 'not known'}: {units if units == patients else f'{units} of {patients}'}, {row.note}"
    )
