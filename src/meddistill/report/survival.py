"""The section on survival: curves of risk groups, and every model beside the baselines without images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import SurvivalCurve
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.report.formatting import DASH, number, plain_name, plural
from meddistill.report.models import ModelStyle, references
from meddistill.report.scores import Cell, score_cell
from meddistill.report.survival_chart import css, kaplan_meier_chart

_FAMILY: Final = "survival"
_METRICS: Final = ("c_index", "uno_c", "mean_auc", "integrated_brier")
_TITLES: Final = ("C-index", "Uno’s C-index", "Mean AUC", "Integrated Brier")
_IMAGES: Final = "images"
_LEAST_P: Final = 0.001


@dataclass(frozen=True, kw_only=True)
class RiskGroups:
    """One model's Kaplan-Meier curves: the chart, its legend of (label, CSS class), the p value in words."""

    name: str
    css: str
    chart: Markup
    legend: tuple[tuple[str, str], ...]
    p_value: str


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model in the table, and what it learns from; muted: a baseline without images."""

    name: str
    css: str
    setting: str
    cells: tuple[Cell, ...]
    spread: str
    muted: bool = False


@dataclass(frozen=True, kw_only=True)
class SurvivalTask:
    """What the section shows of one task."""

    name: str
    about: str
    titles: tuple[str, ...]
    rows: tuple[ModelRow, ...]
    plots: tuple[RiskGroups, ...]
    horizons: str
    within: str


def survival_tasks(results: Results, styles: Sequence[ModelStyle]) -> tuple[SurvivalTask, ...]:
    """All survival tasks, each with all models that it evaluates."""
    return tuple(_task(results, task, styles) for task in results.tasks if task.family == _FAMILY)


def _task(results: Results, task: TaskFacts, styles: Sequence[ModelStyle]) -> SurvivalTask:
    own = references(results, task.name)
    rows = [row for style in styles for row in _rows(results, task.name, style)]
    for style in own:
        rows += [replace(row, setting=DASH, muted=True) for row in _rows(results, task.name, style)]
    facts = task.facts
    unit = facts.get("unit", "")
    horizons = [f"{time:g}" for time in facts.get("horizons", ())]
    return SurvivalTask(
        name=plain_name(task.name),
        about=_about(task),
        titles=_TITLES,
        rows=tuple(rows),
        plots=tuple(_plots(results, task.name, (*styles, *own))),
        horizons=f"{', '.join(horizons)} {unit}" if horizons else "",
        within="fold and cohort" if facts.get("strata") else "fold",
    )


def _about(task: TaskFacts) -> str:
    facts = task.facts
    follow_up = facts.get("median_follow_up")
    words = [plural(facts.get("cohort", task.patients), "patient"), plural(facts.get("events", 0), "event")]
    if follow_up is not None:
        words.append(f"median follow-up {follow_up:.3g} {facts.get('unit', '')}")
    divided = f"{plural(facts.get('folds', 0), 'fold')}, {plural(facts.get('repeats', 0), 'division')}"
    sites = facts.get("sites")
    kept = f" that keep {plural(sites, 'site')} whole" if sites else ""
    strata = facts.get("strata")
    compared = f"; compared inside each of {plural(strata, 'cohort')}" if strata else ""
    return f"{', '.join(words)}; {divided}{kept}{compared}"


def _rows(results: Results, task: str, style: ModelStyle) -> list[ModelRow]:
    on_all_rows = [row for row in results.of(model=style.name, task=task) if not row.modality]
    return [
        _row({row.metric: row for row in on_all_rows if row.setting == setting}, style, setting)
        for setting in dict.fromkeys(row.setting for row in on_all_rows)
    ]


def _row(by_metric: dict[str, Result], style: ModelStyle, setting: str) -> ModelRow:
    main = by_metric.get(_METRICS[0])
    spread = main.spread if main is not None else None
    cells = tuple(score_cell(by_metric.get(metric), absent="not defined") for metric in _METRICS)
    row_setting = f"{_IMAGES} {setting}".strip()
    return ModelRow(name=style.name, css=style.css, setting=row_setting, cells=cells, spread=number(spread))


def _plots(results: Results, task: str, styles: Sequence[ModelStyle]) -> list[RiskGroups]:
    """The student, its best teacher, the teacher mean and the baselines; other teachers are in the table."""
    best = results.best_teacher(task)
    left_out = {name for name in results.named("teacher") if best is None or name != best.model}
    plots = []
    for style in styles:
        curves = results.exhibits_of(SurvivalCurve, task=task, model=style.name)
        if curves and style.name not in left_out:
            plots.append(_plot(style.name, style.css, curves))
    return plots


def _plot(name: str, css_class: str, curves: Sequence[SurvivalCurve]) -> RiskGroups:
    p_value = _p_words(curves[0].p_value)
    label = f"Kaplan-Meier curves of the risk groups of {name}, {p_value}"
    return RiskGroups(
        name=name,
        css=css_class,
        chart=kaplan_meier_chart(curves, label=label),
        legend=tuple((each.group, css(each.group)) for each in curves),
        p_value=p_value,
    )


def _p_words(value: float | None) -> str:
    if value is None:
        return "log-rank test not defined"
    return "log-rank p < 0.001" if value < _LEAST_P else f"log-rank p = {value:.2g}"
