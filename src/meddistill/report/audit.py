"""The section on the teachers before training: heat maps of likeness, scores by modality, which to drop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.audit.record import ENSEMBLE, Audit, AuditScore, Family, LeaveOut, Likeness
from meddistill.report.charts import Tile, tiles
from meddistill.report.formatting import (
    DASH,
    between,
    count,
    number,
    plural,
    shade_of,
)
from meddistill.report.models import ModelStyle
from meddistill.report.scores import Cell, Matrix, Title
from meddistill.signals import Tower

FAMILIES: Final[Mapping[Family, str]] = MappingProxyType(
    {
        "retrieval": "retrieval, mean recall",
        "zero_shot": "shared captions as classes, balanced accuracy",
        "modality": "which modality, balanced accuracy",
    }
)
_SHARES = ((0.9, "Nearly all"), (0.6, "Much"), (0.3, "Some"), (-1.0, "Little"))
_TOWERS: Final[Mapping[Tower, str]] = MappingProxyType({"image": "images", "text": "texts"})


@dataclass(frozen=True, kw_only=True)
class Map:
    """One heat map of teachers by teachers."""

    title: str
    chart: Markup


@dataclass(frozen=True, kw_only=True)
class TeachersBefore:
    """What the section shows; `drops` are lines of the order in which to drop teachers: what is lost, the
    teacher's CSS class, the reason in words.
    """

    sentence: str
    rows: str
    maps: tuple[Map, ...]
    scores: Matrix | None
    drops: tuple[tuple[LeaveOut, str, str], ...]
    rule: str
    notes: tuple[str, ...]


def teachers_before(audit: Audit, styles: Sequence[ModelStyle]) -> TeachersBefore:
    """The section's content; colours are those of the teachers elsewhere in the report."""
    css = {style.name: style.css for style in styles}
    return TeachersBefore(
        sentence=_sentence(audit),
        rows=_rows(audit),
        maps=tuple(_maps(audit, css)),
        scores=_matrix(audit, css),
        drops=tuple(
            (row, css.get(row.teacher, "c-t8"), _reason(row, last=row is audit.order[-1]))
            for row in audit.order
        ),
        rule=audit.rule,
        notes=audit.notes,
    )


def _sentence(audit: Audit) -> str:
    if len(audit.order) < 2:
        return "There are not two teachers to compare."
    first = audit.order[0]
    if first.loss is None:
        return (
            f"The first teacher to drop is {first.teacher}, the most redundant one "
            f"({number(first.redundancy, 2)} of 1)."
        )
    others = "the other one alone scores" if first.of == 2 else f"the {first.of - 1} others together score"
    change = "higher" if first.loss < 0 else "lower"
    return (
        f"The first teacher to drop is {first.teacher}: without it {others} "
        f"{number(abs(first.loss))} {change} on a scale from 0 to 1."
    )


def _rows(audit: Audit) -> str:
    images, held = audit.rows["images"], audit.held["images"]
    words = plural(images, "image") if images == held else f"{count(images)} of {plural(held, 'image')}"
    drawn = "" if images == held else f", drawn evenly over modalities with seed {audit.seed}"
    return f"{words} with {plural(audit.rows['texts'], 'caption')}{drawn}"


def _maps(audit: Audit, css: Mapping[str, str]) -> list[Map]:
    maps = []
    for tower, words in _TOWERS.items():
        names = [row.name for row in audit.teachers if tower in row.dims]
        if len(names) < 2:
            continue
        for measure, title in (("cka", "Similarity of spaces (CKA)"), ("neighbours", "Common neighbours")):
            cells = [
                [None if one == other else _tile(audit.alike(one, other, tower), measure) for other in names]
                for one in names
            ]
            label = f"{title} of every two teachers on {words}"
            chart = tiles([(name, css.get(name, "c-t8")) for name in names], cells, label=label)
            maps.append(Map(title=f"{title}, {words}", chart=chart))
    return maps


def _tile(pair: Likeness | None, measure: str) -> Tile | None:
    if pair is None:
        return None
    value = pair.cka if measure == "cka" else pair.neighbours
    return Tile(
        value=value, words=f"{pair.first} and {pair.second}: {number(value)} on {plural(pair.n, 'row')}"
    )


def _matrix(audit: Audit, css: Mapping[str, str]) -> Matrix | None:
    rows = {(row.teacher, row.family, row.modality): row for row in (*audit.scores, *audit.ensemble)}
    names = [row.name for row in audit.teachers if any(key[0] == row.name for key in rows)]
    if not names:
        return None
    together = [ENSEMBLE] if audit.ensemble else []
    lines = []
    for family, words in FAMILIES.items():
        for modality in ("", *audit.modalities):
            scores = [rows.get((name, family, modality)) for name in (*names, *together)]
            if any(score is not None for score in scores):
                most = max(score.images for score in scores if score is not None)
                title = Title(name=modality or "all modalities", note=f"{words}, n = {count(most)}")
                lines.append((title, _cells(scores, teachers=len(names))))
    columns = [Title(name=name, css=css.get(name, "c-t8")) for name in names]
    return Matrix(columns=(*columns, *(Title(name=name) for name in together)), rows=tuple(lines))


def _cells(scores: Sequence[AuditScore | None], *, teachers: int) -> tuple[Cell, ...]:
    """Shades from chance to the best of the row; the best single teacher is marked."""
    known = [score for score in scores if score is not None]
    chance = min(score.chance for score in known)
    best = max(score.value for score in known)
    most = max(score.images for score in known)
    # Among fewer images an answer is easier to find: no fair best.
    equal = [score.value for score in scores[:teachers] if score is not None and score.images == most]
    single = max(equal, default=best)
    cells = []
    for place, score in enumerate(scores):
        if score is None:
            cells.append(Cell(value=DASH))
            continue
        share = (score.value - chance) / (best - chance) if best > chance else 0.0
        cells.append(
            Cell(
                value=number(score.value),
                interval=_interval(score, most),
                shade=shade_of(share),
                best=place < teachers and score.images == most and score.value == single,
            )
        )
    return tuple(cells)


def _interval(score: AuditScore, most: int) -> str:
    """The interval, and on how many images where there are fewer than others have."""
    words = between(score.low, score.high, 2)
    return words if score.images == most else f"{words}; n = {count(score.images)}"


def _reason(row: LeaveOut, *, last: bool) -> str:
    if last:
        return "The last one: keep it."
    others = "the other one" if row.of == 2 else f"the other {row.of - 1}"
    shared = _shared(row, others)
    if row.loss is None or row.low is None or row.high is None:
        return shared
    if row.high < 0:
        words = "The ensemble is better without it."
    elif row.low > 0:
        words = "The ensemble is worse without it, but no other is clearly cheaper to drop."
    else:
        words = "The ensemble is not clearly worse without it."
    return f"{words} {shared}"


def _shared(row: LeaveOut, others: str) -> str:
    if row.redundancy is None:
        return ""
    share = next(words for least, words in _SHARES if row.redundancy >= least)
    like = f"; it is most like {row.nearest}" if row.nearest and row.redundancy >= _SHARES[1][0] else ""
    return f"{share} of its information is also in {others}{like}."
