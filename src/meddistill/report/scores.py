"""The tables and pictures of scores: by task, by model, by modality."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from meddistill.evaluation.base.records import GroupScore
from meddistill.evaluation.base.results import (
    MEAN_TASK,
    NOT_APPLICABLE,
    Difference,
    Result,
    Results,
    TaskFacts,
)
from meddistill.report.charts import Group, Mark, forest, grouped_bars
from meddistill.report.formatting import (
    DASH,
    between,
    count,
    family,
    metric,
    number,
    plain_name,
    shade_of,
    signed,
    signed_between,
)
from meddistill.report.models import ModelStyle, lead_name
from meddistill.report.phrases import phrases


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number, its interval below it, and a shade (0 pale to 6 dark) or a verdict.

    `seen`: data sets of the task that the model was pretrained on.
    """

    value: str
    interval: str = ""
    shade: int | None = None
    best: bool = False
    verdict: str = ""
    name: str = ""
    seen: tuple[str, ...] = ()


def score_cell(
    row: Result | None, *, absent: str = "", digits: int = 3, bound_digits: int = 2, **marks: Any
) -> Cell:
    """A score with its interval and `marks`; where it has no value a dash, and `absent` if there is a row."""
    if row is None or row.value is None:
        return Cell(value=DASH, interval="" if row is None else absent, name=marks.get("name", ""))
    interval = between(row.low, row.high, bound_digits)
    return Cell(value=number(row.value, digits), interval=interval, **marks)


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A task with the lead, models for comparison, teacher mean, best teacher and the difference from it."""

    task: str
    family: str
    metric: str
    n: str
    patients: str
    cells: tuple[Cell, ...]
    is_mean: bool = False


@dataclass(frozen=True, kw_only=True)
class Title:
    """What a row or column of a matrix is; `css` colours the swatch of a model.

    `muted` sets a row apart that is of no model: what a task's own baseline scores.
    """

    name: str
    note: str = ""
    css: str = ""
    muted: bool = False


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Rows of cells under column titles."""

    columns: tuple[Title, ...]
    rows: tuple[tuple[Title, tuple[Cell, ...]], ...]


def task_columns(styles: Sequence[ModelStyle]) -> tuple[str, ...]:
    """Titles of the cells of `task_rows`."""
    words = phrases(styles)
    alone = tuple(words.short if style.lead else style.name for style in _alone(styles))
    best = ("best teacher",) if any(style.role == "teacher" for style in styles) else ()
    return (*alone, *best, *(("student − best teacher",) if words.distilled else ()))


def _alone(styles: Sequence[ModelStyle]) -> list[ModelStyle]:
    """The models with a column of their own: all but teachers."""
    return [style for style in styles if style.lead or style.role != "teacher"]


def task_rows(results: Results, styles: Sequence[ModelStyle]) -> tuple[TaskRow, ...]:
    """All tasks, then their mean."""
    rows = [_task_row(results, task.name, styles, task) for task in results.tasks]
    if any(row.task == MEAN_TASK for row in results.results):
        rows.append(_task_row(results, MEAN_TASK, styles, None))
    return tuple(rows)


def _task_row(results: Results, task: str, styles: Sequence[ModelStyle], facts: TaskFacts | None) -> TaskRow:
    lead = lead_name(styles)
    best = results.best_teacher(task)
    alone = [style.name for style in _alone(styles)]
    cells = [_task_cell(results.main(name, task), seen=results.seen(name, task)) for name in alone]
    if any(style.role == "teacher" for style in styles):
        named = best.model if best else ""
        cells.append(_task_cell(best, name=named, seen=results.seen(named, task)))
    if phrases(styles).distilled:
        gap = results.difference(lead, best.model, task) if best else None
        cells.append(verdict_cell(gap.value, gap.low, gap.high) if gap else Cell(value=DASH))
    row = results.main(lead, task)
    return TaskRow(
        task=plain_name(task),
        family=family(facts.family) if facts else "",
        metric=metric(facts.main_metric) if facts else "unweighted",
        n=count(facts.n) if facts else "",
        patients=count(facts.patients) if facts else count(row.patients) if row and row.patients else "",
        cells=tuple(cells),
        is_mean=facts is None,
    )


def _task_cell(row: Result | None, *, seen: tuple[str, ...], name: str = "") -> Cell:
    absent = "not applicable" if row is not None and row.note else ""
    return score_cell(row, absent=absent, bound_digits=3, name=name, seen=seen)


def verdict_cell(value: float, low: float | None, high: float | None) -> Cell:
    """A paired difference with its interval, and which way that lies of zero."""
    verdict = "unclear"
    if low is not None and high is not None and not low <= 0 <= high:
        verdict = "better" if low > 0 else "worse"
    return Cell(value=signed(value), interval=signed_between(low, high), verdict=verdict)


def heat_map(results: Results, styles: Sequence[ModelStyle]) -> Matrix:
    """Tasks by models. Shade: from chance (pale) to the best model of the task (dark)."""
    rows = []
    for task in results.tasks:
        title = Title(name=plain_name(task.name), note=family(task.family))
        rows.append((title, _heat_cells(results, styles, task.name, chance=_chance(task))))
    if any(row.task == MEAN_TASK for row in results.results):
        chances = [_chance(task) for task in results.tasks if task.include_in_mean]
        chance = sum(chances) / len(chances) if chances else 0.0
        rows.append((Title(name=MEAN_TASK), _heat_cells(results, styles, MEAN_TASK, chance=chance)))
    columns = tuple(Title(name=style.name, css=style.css) for style in styles)
    return Matrix(columns=columns, rows=tuple(rows))


def _heat_cells(
    results: Results, styles: Sequence[ModelStyle], task: str, *, chance: float
) -> tuple[Cell, ...]:
    rows = {style.name: results.main(style.name, task) for style in styles}
    best = max((row.value or 0.0 if row else 0.0 for row in rows.values()), default=0.0)
    return tuple(
        _heat_cell(row, chance=chance, best=best, seen=results.seen(name, task)) for name, row in rows.items()
    )


def _chance(task: TaskFacts) -> float:
    """What guessing scores: `chance`, or 1 over the classes, ½ for AUC; 0 for retrieval: next to nothing."""
    if task.main_metric == "auc":
        return 0.5
    classes = task.facts.get("classes")
    return float(task.facts.get("chance", 1 / len(classes) if classes else 0.0))


def _heat_cell(row: Result | None, *, chance: float, best: float, seen: tuple[str, ...]) -> Cell:
    if row is None or row.value is None:
        return score_cell(row, absent=absence_reason(row) if row else "")
    share = (row.value - chance) / (best - chance) if best > chance else 0.0
    return score_cell(row, shade=shade_of(share), best=row.value == best, seen=seen)


def absence_reason(row: Result) -> str:
    """Why there is no number, in short: what the model lacks for the task."""
    return row.note.removeprefix(NOT_APPLICABLE)


def seen_lines(results: Results, styles: Sequence[ModelStyle]) -> tuple[str, ...]:
    """One line for every task whose data set a model was pretrained on: which models, which data sets."""
    lines = []
    for task in results.tasks:
        seen = {style.name: results.seen(style.name, task.name) for style in styles}
        named = [f"{name} ({', '.join(datasets)})" for name, datasets in seen.items() if datasets]
        if named:
            lines.append(f"{plain_name(task.name)}: {', '.join(named)}")
    return tuple(lines)


def overview(results: Results, styles: Sequence[ModelStyle]) -> Markup | None:
    """All models on the mean over tasks, and the lead's difference from each."""
    marks = [mark_of(style, results.main(style.name, MEAN_TASK)) for style in styles]
    gaps = [(style, results.difference(lead_name(styles), style.name, MEAN_TASK)) for style in styles]
    differences = {style.name: mark_of(style, gap) for style, gap in gaps if gap is not None}
    if not any(mark.value is not None for mark in marks):
        return None
    words = phrases(styles)
    label = f"Mean over tasks of every model with interval, and {words.whose} difference from each"
    title = f"Difference: {words.short} minus this model"
    return forest(marks, differences, label=label, title=title)


def mark_of(style: ModelStyle, row: Result | Difference | GroupScore | None) -> Mark:
    """A value of a model, as charts draw it."""
    value, low, high = (row.value, row.low, row.high) if row is not None else (None, None, None)
    return Mark(
        label=style.name, css=style.css, role=style.role, value=value, low=low, high=high, lead=style.lead
    )


def by_modality(results: Results, styles: Sequence[ModelStyle]) -> Markup | None:
    """Mean over tasks on the rows of each modality; None where modalities are not known."""
    rows = {
        (row.model, row.modality): row
        for row in results.of(task=MEAN_TASK)
        if row.modality and row.value is not None
    }
    groups = []
    for modality in sorted({modality for _, modality in rows}):
        marks = tuple(mark_of(style, rows.get((style.name, modality))) for style in styles)
        n = max(row.n for (_, name), row in rows.items() if name == modality)
        groups.append(Group(title=modality, note=f"n = {count(n)}", marks=marks))
    if not groups:
        return None
    return grouped_bars(groups, label="Mean over tasks by modality, one bar for each model")
