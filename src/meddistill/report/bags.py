"""The section about bags of images: scores by pooling, and where the student looked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.exhibits import AnyExhibit, BagAttention
from meddistill.evaluation.results import Results, TaskFacts
from meddistill.report.data import Examples
from meddistill.report.models import Look
from meddistill.report.scores import Cell
from meddistill.report.sections import data_address
from meddistill.report.svg import drawing, element, line, text
from meddistill.report.words import between, count, metric, number, plain_name, plural

FAMILY: Final = "bag_classification"
_METRICS: Final = ("balanced_accuracy", "auc", "f1", "quadratic_kappa")
_WIDTH, _HEIGHT, _FOOT = 480.0, 96.0, 18.0
_SHOWN_PICTURES: Final = 5


@dataclass(frozen=True, kw_only=True)
class BagRow:
    """One model with one way of pooling; a cell for each metric."""

    model: str
    css: str
    pooling: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class BagProfile:
    """Attention over one bag: a chart, and pictures (data address, words) where they may be shown."""

    title: str
    note: str
    right: bool
    chart: Markup
    pictures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class BagTask:
    """A task over bags."""

    name: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[BagRow, ...]
    profiles: tuple[BagProfile, ...]


def bag_sections(results: Results, examples: Examples | None, looks: Sequence[Look]) -> tuple[BagTask, ...]:
    """Every task over bags; attention is that of the student, or of the only model."""
    return tuple(_task(results, task, examples, looks) for task in results.tasks if task.family == FAMILY)


def attended(exhibits: Sequence[AnyExhibit]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Table and rows of the pictures that the section would show."""
    for each in exhibits:
        if isinstance(each, BagAttention) and each.table:
            yield each.table, each.rows[:_SHOWN_PICTURES]


def _task(results: Results, task: TaskFacts, examples: Examples | None, looks: Sequence[Look]) -> BagTask:
    there = {row.metric for row in results.of(task=task.name)}
    metrics = [name for name in _METRICS if name in there]
    names = results.named("student") or tuple(look.name for look in looks)
    look = next((look for look in looks if names and look.name == names[0]), None)
    shown = [
        each
        for each in results.exhibits
        if isinstance(each, BagAttention) and look and (each.model, each.task) == (look.name, task.name)
    ]
    facts = task.facts
    return BagTask(
        name=plain_name(task.name),
        note=(
            f"{plural(facts['bags'], 'test bag')} with {plural(facts['instances'], 'image')} "
            f"({facts['median_instances']:g} in the median) of {plural(task.patients, 'patient')}; "
            f"learnt from {plural(facts['train_bags'], 'bag')}."
        ),
        columns=tuple(metric(name) for name in metrics),
        rows=tuple(row for each in looks for row in _rows(results, task.name, each, metrics)),
        profiles=tuple(_profile(each, look.css, examples) for each in shown) if look else (),
    )


def _rows(results: Results, task: str, look: Look, metrics: Sequence[str]) -> Iterator[BagRow]:
    found = {
        (row.setting, row.metric): row
        for row in results.of(model=look.name, task=task)
        if not row.modality and row.value is not None
    }
    for setting in dict.fromkeys(setting for setting, _ in found):
        cells = []
        for name in metrics:
            row = found.get((setting, name))
            interval = between(row.low, row.high, 2) if row else ""
            cells.append(Cell(value=number(row.value if row else None), interval=interval))
        pooling = setting.removesuffix(" pooling") or "main setting"
        yield BagRow(model=look.name, css=look.css, pooling=pooling, cells=tuple(cells))


def _profile(exhibit: BagAttention, css: str, examples: Examples | None) -> BagProfile:
    right = exhibit.truth == exhibit.given
    title = f"{exhibit.truth}" if right else f"{exhibit.truth}, taken for {exhibit.given}"
    hidden = exhibit.instances - len(exhibit.rows)
    note = plural(exhibit.instances, "image") + (f", {count(hidden)} with less attention" if hidden else "")
    held = examples.pictures if examples else {}
    pictures = [
        (data_address(held.get((exhibit.table, row))), f"{100 * weight:.0f}%")
        for row, weight in zip(exhibit.rows, exhibit.weights, strict=True)
    ]
    return BagProfile(
        title=title,
        note=note,
        right=right,
        chart=_bars(exhibit, css),
        pictures=tuple((picture, words) for picture, words in pictures if picture)[:_SHOWN_PICTURES],
    )


def _bars(exhibit: BagAttention, css: str) -> Markup:
    """A bar an image from the left, its height the share of attention; the highest fills the picture."""
    base = _HEIGHT - _FOOT
    step = min(28.0, (_WIDTH - 4) / len(exhibit.weights))
    highest = max(exhibit.weights)
    bars = [
        element(
            "rect",
            element("title", f"{100 * weight:.1f}% of the attention"),
            x=4 + step * place,
            y=base - (base - 16) * weight / highest,
            width=max(step - 2, 1.0),
            height=max((base - 16) * weight / highest, 0.5),
            class_="bar",
        )
        for place, weight in enumerate(exhibit.weights)
    ]
    equal = base - (base - 16) / exhibit.instances / highest
    return drawing(
        _WIDTH,
        _HEIGHT,
        element("g", *bars, class_=css),
        line((0, equal), (_WIDTH, equal), class_="reference"),
        line((0, base), (_WIDTH, base), class_="axis"),
        text(4, 11, f"{100 * highest:.0f}%", class_="tick"),
        text(4, _HEIGHT - 4, "images by attention", class_="tick"),
        label=f"Attention over {plural(exhibit.instances, 'image')} of a bag, highest first",
    )
