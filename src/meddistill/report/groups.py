"""The section on groups of patients: every group's score, the worst one, the gap."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meddistill.evaluation.results import Results
from meddistill.evaluation.statistics.records import GroupGap, GroupScore
from meddistill.report.charts import Group, Mark, grouped_bars
from meddistill.report.models import Look
from meddistill.report.words import DASH, between, count, metric, number, plain_name, plural


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
    """One group of one task: bars of all models by label, and a table of the gaps."""

    title: str
    chart: Markup | None
    rows: tuple[GapRow, ...]
    hidden: str


def panels(results: Results, looks: Sequence[Look]) -> tuple[GroupPanel, ...]:
    """A panel for every group of every task, in the order of the results."""
    places = dict.fromkeys((gap.task, gap.group) for gap in results.gaps)
    return tuple(_panel(results, looks, task, group) for task, group in places)


def _panel(results: Results, looks: Sequence[Look], task: str, group: str) -> GroupPanel:
    scores = [row for row in results.groups if (row.task, row.group) == (task, group)]
    gaps = [row for row in results.gaps if (row.task, row.group) == (task, group)]
    main = [row for row in scores if row.main]
    name = metric(main[0].metric) if main else ""
    return GroupPanel(
        title=f"{plain_name(task)}, {name}, by {plain_name(group)}",
        chart=_bars(main, looks, group),
        rows=tuple(
            _gap(results, scores, gap, look) for look in looks for gap in gaps if gap.model == look.name
        ),
        hidden=_hidden(main, looks),
    )


def _bars(rows: Sequence[GroupScore], looks: Sequence[Look], group: str) -> Markup | None:
    labels = dict.fromkeys(row.label for row in rows if row.value is not None)
    found = {(row.model, row.label): row for row in rows}
    worst = next((row.label for look in looks for row in rows if row.model == look.name and row.worst), None)
    groups = []
    for label in labels:
        mine = [(look, found[look.name, label]) for look in looks if (look.name, label) in found]
        marks = tuple(_mark(look, row) for look, row in mine)
        shown = next(row for row in rows if row.label == label and row.value is not None)
        title = f"▼ {label}" if label == worst else label
        groups.append(Group(title=title, note=f"n = {count(shown.n)}", marks=marks))
    label = f"Main metric by {group}, one bar for each model"
    return grouped_bars(groups, label=label) if groups else None


def _mark(look: Look, row: GroupScore) -> Mark:
    return Mark(
        label=look.name,
        css=look.css,
        role=look.role,
        value=row.value,
        low=row.low,
        high=row.high,
        lead=look.lead,
    )


def _gap(results: Results, scores: Sequence[GroupScore], gap: GroupGap, look: Look) -> GapRow:
    mine = {row.label: row for row in scores if (row.model, row.metric) == (gap.model, gap.metric)}
    worst = mine.get(gap.worst) if gap.value else None
    lowest = DASH
    if worst is not None:
        interval = between(worst.low, worst.high, 2)
        lowest = f"{number(worst.value)} ({interval})" if interval else number(worst.value)
    return GapRow(
        model=look.name,
        css=look.css,
        metric=metric(gap.metric),
        worst=gap.worst if gap.value else DASH,
        lowest=lowest,
        gap=number(gap.value),
        interval=between(gap.low, gap.high),
        note=gap.note or (worst.note if worst is not None else ""),
        seen=results.seen(gap.model, gap.task),
    )


def _hidden(rows: Sequence[GroupScore], looks: Sequence[Look]) -> str:
    """Labels that are counted and not scored, as the first model has them."""
    first = next((look.name for look in looks if any(row.model == look.name for row in rows)), "")
    mine = [row for row in rows if row.model == first]
    parts = [_counted(row) for row in mine if row.value is None]
    notes = [f"{row.label}: {row.note}" for row in mine if row.value is not None and row.note]
    return "; ".join([*parts, *notes])


def _counted(row: GroupScore) -> str:
    name = row.label or "not known"
    return f"{name}: {plural(row.n, 'row')} of {plural(row.patients, 'patient')}, {row.note}"
