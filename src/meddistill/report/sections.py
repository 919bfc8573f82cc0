"""The other parts of a report: agreement, examples, size, licences, tasks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meddistill.evaluation.base.results import Agreement, Results, RetrievalExample, TaskFacts
from meddistill.licences import LicenceTerms
from meddistill.report.data import Examples, ModelCard
from meddistill.report.formatting import (
    DASH,
    DIRECTIONS,
    count,
    large,
    number,
    plural,
    rate,
    rows_of,
    shade_of,
)
from meddistill.report.models import ModelStyle, lead_name
from meddistill.report.scores import Cell, Matrix, Title

_SHOWN_QUERIES = 6
_MEASURES = {
    "cka": ("Linear CKA", "similarity of the two spaces as a whole; 1 is equal up to rotation, 0 unrelated"),
    "neighbours": ("Common neighbours", "share of the 10 nearest images that both models agree on"),
    "labels": ("Equal decisions", "share of zero-shot decisions that are the same"),
}


@dataclass(frozen=True, kw_only=True)
class AgreementTable:
    """One measure: teachers by modalities."""

    title: str
    note: str
    matrix: Matrix


def agreement_tables(results: Results, styles: Sequence[ModelStyle]) -> tuple[AgreementTable, ...]:
    """A table for every measure; shades run from 0 to 1."""
    students = results.named("student")
    rows = [row for row in results.agreement if students and row.student == students[0]]
    css = {style.name: style.css for style in styles}
    tables = []
    for measure, (title, note) in _MEASURES.items():
        by_teacher = {(row.teacher, row.modality): row for row in rows if row.measure == measure}
        if not by_teacher:
            continue
        modalities = sorted({modality for _, modality in by_teacher})
        rows_of_teachers = tuple(
            (
                Title(name=teacher, css=css.get(teacher, "")),
                tuple(_agreement_cell(by_teacher.get((teacher, each))) for each in modalities),
            )
            for teacher in dict.fromkeys(teacher for teacher, _ in by_teacher)
        )
        sizes = {
            each: max(row.n for (_, name), row in by_teacher.items() if name == each) for each in modalities
        }
        matrix = Matrix(
            columns=tuple(Title(name=each or "all", note=f"n = {count(sizes[each])}") for each in modalities),
            rows=rows_of_teachers,
        )
        tables.append(AgreementTable(title=title, note=note, matrix=matrix))
    return tuple(tables)


def _agreement_cell(row: Agreement | None) -> Cell:
    return Cell(value=DASH) if row is None else Cell(value=number(row.value, 2), shade=shade_of(row.value))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer to a query: a picture (data address) or a caption, and whether it is right."""

    right: bool
    picture: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query with the lead's five best answers and the rank of the best right one, by model."""

    direction: str
    modality: str
    answers: tuple[Answer, ...]
    ranks: tuple[tuple[str, str, str], ...]
    picture: str = ""
    caption: str = ""


def queries(results: Results, examples: Examples | None, styles: Sequence[ModelStyle]) -> tuple[Query, ...]:
    """Some queries of every direction; without `examples` neither pictures nor captions, ranks alone."""
    mine = [row for row in results.examples if row.model == lead_name(styles)]
    ranks: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in results.examples:
        ranks.setdefault((row.task, row.direction, row.query), {})[row.model] = row.rank
    chosen: list[Query] = []
    for direction in DIRECTIONS:
        shown = [each for each in mine if each.direction == direction][:_SHOWN_QUERIES]
        chosen.extend(
            _query(row, ranks[row.task, row.direction, row.query], examples, styles) for row in shown
        )
    return tuple(chosen)


def _query(
    row: RetrievalExample, ranks: Mapping[str, float], examples: Examples | None, styles: Sequence[ModelStyle]
) -> Query:
    from_image = row.direction == "image_to_text"

    def shown(number: int, *, as_picture: bool) -> dict[str, str]:
        if examples is None:
            return {}
        if as_picture:
            return {"picture": data_address(examples.picture(row.table, number))}
        return {"caption": examples.caption(row.table, number)}

    return Query(
        direction=DIRECTIONS[row.direction],
        modality=row.modality,
        answers=tuple(
            Answer(right=right, **shown(answer, as_picture=not from_image))
            for answer, right in zip(row.answers, row.right, strict=True)
        ),
        ranks=tuple(
            (style.name, style.css, f"{ranks[style.name]:g}") for style in styles if style.name in ranks
        ),
        **shown(row.query, as_picture=from_image),
    )


def data_address(picture: bytes) -> str:
    """A picture as an address that holds it; empty for none."""
    if not picture:
        return ""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """A model's size and speed: a figure for every column of the table.

    `share` is its part of the largest one's parameters, for a bar; None where no model's are known.
    """

    name: str
    css: str
    share: float | None
    parameters: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SizeTable:
    """Columns of (title, words below it) that some model has a figure for, and a row for every model."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[SizeRow, ...]
    timed: bool

    @property
    def weighed(self) -> bool:
        """Whether the parameters of any model are known."""
        return any(row.share is not None for row in self.rows)


def size_table(cards: Sequence[ModelCard], styles: Sequence[ModelStyle]) -> SizeTable | None:
    """A row for every model in the report's order; None where nothing is known of any."""
    batches = sorted({batch for card in cards for batch in card.images_per_second or {}})
    titles = [("Stored, MB", ""), ("Input, px", ""), ("Embedding", ""), ("Context, tokens", "")]
    titles += [("Images/s", f"batch of {batch}") for batch in batches]
    by_name = {card.name: card for card in cards}
    shown = [style for style in styles if style.name in by_name]
    figures = [_figures(by_name[style.name], batches) for style in shown]
    kept = [place for place in range(len(titles)) if any(line[place] != DASH for line in figures)]
    largest = max((card.parameters or 0 for card in cards), default=0)
    rows = tuple(
        SizeRow(
            name=style.name,
            css=style.css,
            share=(by_name[style.name].parameters or 0) / largest if largest else None,
            parameters=large(by_name[style.name].parameters),
            cells=tuple(line[place] for place in kept),
        )
        for style, line in zip(shown, figures, strict=True)
    )
    if not kept and not largest:
        return None
    return SizeTable(columns=tuple(titles[place] for place in kept), rows=rows, timed=bool(batches))


def _figures(card: ModelCard, batches: Sequence[int]) -> tuple[str, ...]:
    speeds = card.images_per_second or {}
    return (
        number(card.megabytes, 1),
        f"{card.input_size[0]} × {card.input_size[1]}" if card.input_size else DASH,
        str(card.embed_dim or DASH),
        str(card.context_length or DASH),
        *(rate(speeds[batch]) if batch in speeds else DASH for batch in batches),
    )


def permitted_use(terms: LicenceTerms) -> tuple[str, ...]:
    """What the student may be used for, in sentences."""
    words = [
        {
            True: "Commercial use is allowed.",
            False: "Non-commercial use only.",
            None: "Whether commercial use is allowed is not known; treat it as not allowed.",
        }[terms.commercial],
        {
            True: "The student may be shared.",
            False: "The student must not be shared: one of the licences forbids derivatives.",
            None: "Whether the student may be shared is not known; do not share it before it is.",
        }[terms.derivatives],
    ]
    if terms.share_alike:
        words.append("It must be shared under the same licence (share-alike).")
    if terms.research_only:
        words.append("Research only: a licence or model card rules out clinical use.")
    if terms.redistribute_outputs is not True:
        words.append("Features extracted from the teachers are to be kept private.")
    return tuple(words)


def classes_of(task: TaskFacts) -> str:
    """`healthy (20), ill (21)`, or what else a task counts."""
    facts = task.facts
    if "cohort" in facts:
        return f"{count(facts['events'])} events among {count(facts['cohort'])} patients"
    if "images" in facts:
        return f"{count(facts['images'])} images, {count(facts['texts'])} captions in the galleries"
    classes = facts.get("classes") or facts.get("labels") or {}
    listed = ", ".join(f"{name} ({count(each['n'])})" for name, each in classes.items())
    if "bags" in facts:
        listed += f"; bags of {facts['median_instances']:g} images in the median"
    return listed


def size_of(task: TaskFacts) -> str:
    """`40 images, 20 patients`: what a task is tested on."""
    return f"{rows_of(task.n, task.family)}, {plural(task.patients, 'patient')}"
