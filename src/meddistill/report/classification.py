"""Classification in detail: the student beside the best teacher of each task, and what scores are worth."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import CalibrationCurve, Confusion, RocCurve
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.evaluation.tasks.classification.shots import shots_of
from meddistill.report.classification_charts import (
    Bins,
    Line,
    ShotPoint,
    confusion_chart,
    reliability_chart,
    roc_chart,
    shots_chart,
)
from meddistill.report.formatting import (
    DASH,
    count,
    family,
    metric,
    number,
    plain_name,
    plural,
)
from meddistill.report.models import REFERENCE_CSS, ModelStyle
from meddistill.report.scores import Cell, score_cell
from meddistill.report.sections import size_of

MACRO = "macro"
_MOST_DRAWN = 16
_MOST_CLASSES = 12
_FEW_ROWS = 50  # below it a bin of the reliability curve holds a handful
_MEASURES = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture with its title, a legend of (label, CSS class, value) and a line below; wide: two columns.

    `points`: the curves have points in the models' shapes, which the legend shows too.
    """

    title: str
    chart: Markup
    legend: tuple[tuple[str, str, str], ...] = ()
    note: str = ""
    wide: bool = False
    points: bool = False


@dataclass(frozen=True, kw_only=True)
class OperatingRow:
    """One rule for one model: threshold, then each measure."""

    rule: str
    source: str
    model: str
    css: str
    threshold: str
    cells: tuple[Cell, ...]
    prevalence: str


@dataclass(frozen=True, kw_only=True)
class TaskDetail:
    """Everything about one task; `each` are the curves of its classes or labels, which `unfold` shows."""

    name: str
    family: str
    size: str
    panels: tuple[Panel, ...]
    each: tuple[Panel, ...]
    unfold: bool
    operating: tuple[OperatingRow, ...]


def classification_details(results: Results, styles: Sequence[ModelStyle]) -> tuple[TaskDetail, ...]:
    """A record for every task that has something to show."""
    details = (_detail(results, task, styles) for task in results.tasks)
    return tuple(each for each in details if each.panels or each.each or each.operating)


def _detail(results: Results, task: TaskFacts, styles: Sequence[ModelStyle]) -> TaskDetail:
    shown = _shown(results, task.name, styles)
    curves = results.exhibits_of(RocCurve, task=task.name)
    panels = [_roc(task, curves, shown), _reliability(results, task, shown), _confusion(results, task, shown)]
    return TaskDetail(
        name=plain_name(task.name),
        family=family(task.family),
        size=size_of(task),
        panels=tuple(each for each in (*panels, _shots(results, task, styles)) if each is not None),
        each=_one_each(task, curves, shown),
        unfold="labels" in task.facts,
        operating=_operating(results, task, shown),
    )


def _shown(results: Results, task: str, styles: Sequence[ModelStyle]) -> list[ModelStyle]:
    """The lead and the best teacher of the task."""
    named = list(styles[:1])
    best = results.best_teacher(task)
    teacher = [style for style in styles if best is not None and style.name == best.model]
    return [*named, *(style for style in teacher if style not in named)]


def _roc(task: TaskFacts, curves: Sequence[RocCurve], shown: Sequence[ModelStyle]) -> Panel | None:
    """One curve for each model: the mean over classes, of two that of the positive one.

    Of several labels the mean stands among the labels' own curves, unless there are too many of them.
    """
    labels = list(dict.fromkeys(each.label for each in curves))
    if not labels or ("labels" in task.facts and len(labels) <= _MOST_DRAWN):
        return None
    chosen = MACRO if MACRO in labels else labels[0]
    what = "labels" if "labels" in task.facts else "classes"
    title = f"ROC, mean over {what}" if chosen == MACRO else f"ROC of “{chosen}”"
    return _roc_panel(title, [each for each in curves if each.label == chosen], shown, small=False)


def _one_each(task: TaskFacts, curves: Sequence[RocCurve], shown: Sequence[ModelStyle]) -> tuple[Panel, ...]:
    """The curves of each class or label by itself, where there are several."""
    several = "labels" in task.facts
    labels = [label for label in dict.fromkeys(each.label for each in curves) if several or label != MACRO]
    if not (1 if several else 2) <= len(labels) <= _MOST_DRAWN:
        return ()
    labels.sort(key=lambda label: label != MACRO)
    known = task.facts.get("labels") or task.facts.get("classes") or {}
    panels = []
    for label in labels:
        panel = _roc_panel(label, [each for each in curves if each.label == label], shown, small=True)
        if panel is not None:
            rows = known.get(label, {}).get("n")
            name = "Mean over labels" if label == MACRO else label
            title = f"{name} (n = {count(rows)})" if rows is not None else name
            panels.append(Panel(title=title, chart=panel.chart, legend=panel.legend))
    return tuple(panels)


def _roc_panel(
    title: str, curves: Sequence[RocCurve], shown: Sequence[ModelStyle], *, small: bool
) -> Panel | None:
    by_model = {each.model: each for each in curves}
    drawn = [(style, by_model[style.name]) for style in shown if style.name in by_model]
    if not drawn:
        return None
    lines = [
        Line(label=style.name, css=style.css, points=tuple(zip(each.fpr, each.tpr, strict=True)))
        for style, each in drawn
    ]
    legend = tuple((style.name, style.css, f"AUC {number(each.auc)}") for style, each in drawn)
    return Panel(title=title, chart=roc_chart(lines, label=title, small=small), legend=legend)


def _reliability(results: Results, task: TaskFacts, shown: Sequence[ModelStyle]) -> Panel | None:
    """The first shown model, as it is and after its temperature."""
    name, css = shown[0].name, shown[0].css
    curves = results.exhibits_of(CalibrationCurve, task=task.name, model=name)
    if not curves:
        return None
    bins = [
        Bins(
            label=each.setting or "as it is",
            css=css if not each.setting else REFERENCE_CSS,
            curve=each,
            dashed=bool(each.setting),
        )
        for each in curves
    ]
    legend = tuple(
        (part.label, part.css, f"ECE {number(each.ece)}") for part, each in zip(bins, curves, strict=True)
    )
    temperature = next(
        (row for row in results.of(model=name, task=task.name) if row.metric == "temperature"), None
    )
    notes = []
    if temperature is not None:
        fitted = f"{number(temperature.value, 2)}, fitted on validation"
        notes.append(f"Temperature {fitted if temperature.value is not None else temperature.note}.")
    if sum(curves[0].counts) < _FEW_ROWS:
        notes.append(f"{plural(sum(curves[0].counts), 'decision')}: too few to read the curve by its points.")
    title = f"Reliability of {name}"
    return Panel(title=title, chart=reliability_chart(bins, label=title), legend=legend, note=" ".join(notes))


def _confusion(results: Results, task: TaskFacts, shown: Sequence[ModelStyle]) -> Panel | None:
    name = shown[0].name
    confusion = next(iter(results.exhibits_of(Confusion, task=task.name, model=name)), None)
    if confusion is None or len(confusion.classes) > _MOST_CLASSES:
        return None
    title = f"Decisions of {name}"
    return Panel(
        title=title,
        chart=confusion_chart(confusion.classes, confusion.counts, label=f"Confusion matrix of {name}"),
        note=_decisions_note(confusion),
    )


def _decisions_note(confusion: Confusion) -> str:
    words = "Figures count images; shade: share of the true class."
    if any(not float(each).is_integer() for line in confusion.counts for each in line):
        words += " An image whose highest classes tie is shared equally between them, hence parts of one."
    return words


def _shots(results: Results, task: TaskFacts, styles: Sequence[ModelStyle]) -> Panel | None:
    series = []
    for style in styles:
        rows = [
            row
            for row in results.of(model=style.name, task=task.name)
            if row.metric == task.main_metric and not row.modality and row.value is not None
        ]
        points = [_shot_point(row) for row in rows if shots_of(row.setting) is not None]
        if points:
            whole = [_shot_point(row) for row in rows if row.main]
            ordered = sorted(points, key=lambda point: point.shots or 0)
            series.append((style.name, style.css, [*ordered, *whole]))
    if not series:
        return None
    title = f"{metric(task.main_metric).capitalize()} over labelled images"
    return Panel(
        title=title,
        chart=shots_chart(series, label=title, metric=metric(task.main_metric)),
        legend=tuple((name, css, "") for name, css, _ in series),
        note=f"Means over draws; bars are intervals over patients, of {series[0][0]} alone.",
        wide=True,
        points=True,
    )


def _shot_point(row: Result) -> ShotPoint:
    return ShotPoint(shots=shots_of(row.setting), value=row.value or 0.0, low=row.low, high=row.high)


def _operating(results: Results, task: TaskFacts, shown: Sequence[ModelStyle]) -> tuple[OperatingRow, ...]:
    rows: dict[str, dict[str, dict[str, Result]]] = {}
    for row in results.of(task=task.name):
        if ", threshold from " in row.setting:
            rows.setdefault(row.setting, {}).setdefault(row.model, {})[row.metric] = row
    return tuple(
        _operating_row(setting, models[style.name], style)
        for setting, models in rows.items()
        for style in shown
        if style.name in models
    )


def _operating_row(setting: str, rows: dict[str, Result], style: ModelStyle) -> OperatingRow:
    rule, _, source = setting.rpartition(", threshold from ")
    threshold = rows.get("threshold")
    prevalence = rows.get("prevalence")
    return OperatingRow(
        rule=rule,
        source=source,
        model=style.name,
        css=style.css,
        threshold=number(threshold.value) if threshold else DASH,
        cells=tuple(score_cell(rows.get(name)) for name in _MEASURES),
        prevalence=f"{100 * prevalence.value:.1f}%" if prevalence and prevalence.value is not None else DASH,
    )
