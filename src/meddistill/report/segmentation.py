"""The section on segmentation: every metric of every model, and outlines where pictures may be shown."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from meddistill.evaluation.base.exhibits import MaskExample
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.imaging import Geometry, seen_box
from meddistill.report.data import Examples
from meddistill.report.formatting import count, metric, number, plain_name
from meddistill.report.models import ModelStyle, lead_name, references
from meddistill.report.scores import Cell, Matrix, Title, absence_reason, score_cell
from meddistill.report.sections import data_address
from meddistill.report.svg import element

KIND: Final = "segmentation_probe"
# Lower is better; all other metrics are shares of one.
_LOW_IS_GOOD: Final = ("hd95_", "missed", "invented")
_SIDE: Final = 256  # pixels of a picture


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One image of the lead: best, median or worst; `drawing` where pictures may be shown.

    `empty`: the model marked nothing on it.
    """

    place: str
    dice: str
    empty: bool
    drawing: Markup | None


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """One task: metrics by model, what to know of it, and the lead's outlines."""

    title: str
    note: str
    matrix: Matrix
    outlines: tuple[Outline, ...]


def segmentation(
    results: Results, examples: Examples | None, styles: Sequence[ModelStyle]
) -> tuple[Segmentation, ...]:
    """A part for every segmentation task."""
    return tuple(
        Segmentation(
            title=plain_name(task.name),
            note=_note(task),
            matrix=_matrix(results, task, styles),
            outlines=_outlines(results, task, examples, styles),
        )
        for task in results.tasks
        if task.family == KIND
    )


def _note(task: TaskFacts) -> str:
    facts = task.facts
    decoder = {"linear": "a linear decoder", "light": "a light convolutional decoder"}
    without = facts.get("without_structure", 0)
    rule = {
        "score": "there an empty answer counts as right",
        "skip": "they count as invented or not, and in no other metric",
    }
    parts = [
        f"Patch tokens through {decoder.get(str(facts.get('decoder')), 'a decoder')} that was trained on "
        f"{count(facts.get('train_n', 0))} images; {count(task.n)} images tested"
    ]
    if without:
        parts.append(f"{count(without)} of them lack the structure: {rule[facts.get('empty', 'score')]}")
    parts.append(f"surfaces by {facts.get('surfaces', 'MONAI')}")
    penalty = "A structure that is missed altogether has the image's diagonal as its surface distance."
    return f"{'; '.join(parts)}. {penalty}"


def _matrix(results: Results, task: TaskFacts, styles: Sequence[ModelStyle]) -> Matrix:
    """Models, the best of each metric underlined, then what the task's own baselines score."""
    rows: dict[tuple[str, str], Result] = {
        (row.model, row.metric): row for row in results.of(task=task.name) if not row.modality
    }
    names = list(dict.fromkeys(name for _, name in rows))
    models = {style.name for style in styles}
    best = {name: _best(name, [row for row in rows.values() if row.model in models]) for name in names}
    lines = [
        (Title(name=style.name, css=style.css), _cells(rows, style.name, names, best))
        for style in styles
        if any((style.name, name) in rows for name in names)
    ]
    lines += [
        (Title(name=style.name, css=style.css, muted=True), _cells(rows, style.name, names, {}))
        for style in references(results, task.name)
    ]
    return Matrix(columns=tuple(Title(name=metric_words(name)) for name in names), rows=tuple(lines))


def _cells(
    rows: Mapping[tuple[str, str], Result], model: str, names: Sequence[str], best: Mapping[str, float | None]
) -> tuple[Cell, ...]:
    return tuple(_cell(rows.get((model, name)), best.get(name)) for name in names)


def _best(name: str, rows: Sequence[Result]) -> float | None:
    values = [row.value for row in rows if row.metric == name and row.value is not None]
    return (min if name.startswith(_LOW_IS_GOOD) else max)(values, default=None)


def _cell(row: Result | None, best: float | None) -> Cell:
    if row is None:
        return score_cell(None)
    digits = 1 if row.metric.startswith("hd95_") else 3
    marks = {"digits": digits, "bound_digits": min(digits, 2), "best": row.value == best}
    return score_cell(row, absent=absence_reason(row), **marks)


def metric_words(name: str) -> str:
    """A metric in words, with its tolerance and unit."""
    if name.startswith("hd95_"):
        return f"95 % surface distance, {name.removeprefix('hd95_')}"
    if name.startswith("nsd_"):
        within = name.removeprefix("nsd_")
        return f"surface Dice within {within[:-2]} {within[-2:]}"
    return metric(name)


def _outlines(
    results: Results, task: TaskFacts, examples: Examples | None, styles: Sequence[ModelStyle]
) -> tuple[Outline, ...]:
    return tuple(
        Outline(
            place=each.place,
            dice=number(each.dice),
            empty=each.empty,
            drawing=_drawing(each, examples) if examples and each.truth and each.given else None,
        )
        for each in results.exhibits_of(MaskExample, task=task.name, model=lead_name(styles))
    )


def _drawing(example: MaskExample, examples: Examples) -> Markup | None:
    """The picture (padded to a square) under the true and the given outline."""
    picture = examples.picture(example.table, example.row, side=_SIDE)
    if not picture:
        return None
    truth, given = _mask(example.truth), _mask(example.given)
    height, width = truth.shape
    top, left, bottom, right = seen_box(height, width, Geometry(_SIDE, _SIDE, "pad", "bicubic"))
    marks = ", marks nothing" if example.empty else ""
    label = f"{example.place} outline, Dice {number(example.dice)}{marks}"
    return element(
        "svg",
        element("title", label),
        element("image", href=data_address(picture), x=left, y=top, width=right - left, height=bottom - top),
        element("path", d=_edges(truth), class_="truth"),
        element("path", d=_edges(given), class_="given"),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
        class_="outline",
    )


def _mask(text: str) -> NDArray[np.bool_]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("1"))


def _edges(mask: NDArray[np.bool_]) -> str:
    """The border between marked and other pixels as lines along the grid of pixels."""
    padded = np.pad(mask, 1)
    level = [f"M{start} {row}H{end}" for row, start, end in _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])]
    upright = [
        f"M{column} {start}V{end}" for column, start, end in _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    ]
    return "".join([*level, *upright])


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Line, start and end of every run of marked cells."""
    steps = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(line), int(start), int(end)) for (line, start), (_, end) in zip(starts, ends, strict=True)]
