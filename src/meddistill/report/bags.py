"""The section about bags of images: scores by pooling, and attention of models."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import BagAttention
from meddistill.evaluation.base.results import Results, TaskFacts
from meddistill.report.attention_maps import drawn, over_picture
from meddistill.report.data import Examples
from meddistill.report.formatting import count, metric, plain_name, plural
from meddistill.report.models import ModelStyle, references
from meddistill.report.phrases import phrases
from meddistill.report.scores import Cell, score_cell
from meddistill.report.sections import data_address
from meddistill.report.svg import drawing, element, line, text

FAMILY: Final = "bag_classification"
_METRICS: Final = ("balanced_accuracy", "auc", "f1", "quadratic_kappa")
_WIDTH, _HEIGHT, _FOOT = 480.0, 96.0, 18.0
_NARROW: Final = 240.0  # beside a map and a picture
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
    """Attention over one bag: a chart, a map where places are known, and pictures where they may be shown.

    `pictures` are (data address, words); `slide` is the bag as a picture in the frame of the map.
    """

    title: str
    note: str
    right: bool
    chart: Markup
    pictures: tuple[tuple[str, str], ...] = ()
    map: Markup | None = None
    slide: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class ModelAttention:
    """Profiles of one model; `mapped` where one has a map."""

    who: str
    mapped: bool
    profiles: tuple[BagProfile, ...]


@dataclass(frozen=True, kw_only=True)
class BagTask:
    """A task over bags."""

    name: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[BagRow, ...]
    attention: tuple[ModelAttention, ...]


def bag_sections(
    results: Results, examples: Examples | None, styles: Sequence[ModelStyle]
) -> tuple[BagTask, ...]:
    """Every task over bags.

    Attention is that of the student, or of the first model, and of stored features whose places are known.
    """
    return tuple(_task(results, task, examples, styles) for task in results.tasks if task.family == FAMILY)


def _task(
    results: Results, task: TaskFacts, examples: Examples | None, styles: Sequence[ModelStyle]
) -> BagTask:
    there = {row.metric for row in results.of(task=task.name)}
    metrics = [name for name in _METRICS if name in there]
    everyone = (*styles, *references(results, task.name))
    facts = task.facts
    return BagTask(
        name=plain_name(task.name),
        note=(
            f"{plural(facts['bags'], 'test bag')} with {plural(facts['instances'], 'image')} "
            f"({facts['median_instances']:g} in the median) of {plural(task.patients, 'patient')}; "
            f"trained on {plural(facts['train_bags'], 'bag')}."
        ),
        columns=tuple(metric(name) for name in metrics),
        rows=tuple(row for each in everyone for row in _rows(results, task, each, metrics)),
        attention=tuple(
            ModelAttention(
                who=phrases(styles).who if style.lead else style.name,
                mapped=any(each.places for each in attended),
                profiles=tuple(_profile(each, style.css, examples) for each in attended),
            )
            for style in _shown(results, task.name, styles)
            if (attended := results.exhibits_of(BagAttention, task=task.name, model=style.name))
        ),
    )


def _shown(results: Results, task: str, styles: Sequence[ModelStyle]) -> Iterator[ModelStyle]:
    """The lead, and the task's own baselines whose attention has a map."""
    yield from (style for style in styles if style.lead)
    for style in references(results, task):
        if any(each.places for each in results.exhibits_of(BagAttention, task=task, model=style.name)):
            yield style


def _rows(results: Results, task: TaskFacts, style: ModelStyle, metrics: Sequence[str]) -> Iterator[BagRow]:
    by_setting = {
        (row.setting, row.metric): row
        for row in results.of(model=style.name, task=task.name)
        if not row.modality and row.value is not None
    }
    for setting in dict.fromkeys(setting for setting, _ in by_setting):
        cells = tuple(score_cell(by_setting.get((setting, name))) for name in metrics)
        pooling = setting.removesuffix(" pooling") or task.facts["pooling"]
        yield BagRow(model=style.name, css=style.css, pooling=pooling, cells=cells)


def _profile(exhibit: BagAttention, css: str, examples: Examples | None) -> BagProfile:
    right = exhibit.truth == exhibit.given
    title = exhibit.truth if right else f"{exhibit.truth}, taken for {exhibit.given}"
    # Stored features, which have no table, have no pictures.
    shown = examples if exhibit.table else None
    pictures = [
        (data_address(shown.picture(exhibit.table, row)), _share(exhibit, weight))
        for row, weight in list(zip(exhibit.rows, exhibit.weights, strict=True))[:_SHOWN_PICTURES]
        if shown
    ]
    places, first = exhibit.places, exhibit.rows[0]
    slide = shown.slide(exhibit.table, places) if shown and places else b""
    words = f"Map of attention over {plural(exhibit.instances, 'image')}"
    return BagProfile(
        title=title,
        note=_note(exhibit),
        right=right,
        chart=_bars(exhibit, css, _NARROW if slide else _WIDTH),
        pictures=tuple((picture, words) for picture, words in pictures if picture),
        map=drawn(places, first, words) if places else None,
        slide=over_picture(places, first, data_address(slide), "Its tiles") if places and slide else None,
    )


def _note(exhibit: BagAttention) -> str:
    hidden, images = exhibit.instances - len(exhibit.rows), plural(exhibit.instances, "image")
    if exhibit.places is None:
        return images + (f", {count(hidden)} with less attention" if hidden else "")
    joined = len(exhibit.places.cells) < exhibit.instances
    return f"{images}; the highest attention is {_share(exhibit, exhibit.weights[0])} an equal share" + (
        "; a square is the mean of several neighbours" if joined else ""
    )


def _share(exhibit: BagAttention, weight: float) -> str:
    """Attention as a share of the bag's, or, as on a map, in multiples of an equal share."""
    if exhibit.places is None:
        return f"{100 * weight:.0f}%"
    times = weight * exhibit.instances
    return f"{times:.1f}×" if times < 10 else f"{times:,.0f}×"


def _bars(exhibit: BagAttention, css: str, width: float) -> Markup:
    """A bar an image from the left, its height the share of attention; the highest fills the picture."""
    base = _HEIGHT - _FOOT
    step = min(28.0, (width - 4) / len(exhibit.weights))
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
        width,
        _HEIGHT,
        element("g", *bars, class_=css),
        line((0, equal), (width, equal), class_="reference"),
        line((0, base), (width, base), class_="axis"),
        text(4, 11, _share(exhibit, highest), class_="tick"),
        text(4, _HEIGHT - 4, "images by attention", class_="tick"),
        label=f"Attention over {plural(exhibit.instances, 'image')} of a bag, highest first",
    )
