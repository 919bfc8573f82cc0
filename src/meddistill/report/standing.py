"""The first table: the student, plain encoders under it, then all others, on the tasks that both have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from meddistill.evaluation.base.records import Comparison
from meddistill.evaluation.base.results import MEAN_TASK, Results
from meddistill.report.formatting import number, plain_name
from meddistill.report.models import ModelStyle
from meddistill.report.phrases import phrases
from meddistill.report.scores import Cell, absence_reason, score_cell, verdict_cell

_HOW: Final = (
    "To see whether a plain encoder would do, name one under `baselines` (`evaluate.baselines` of a recipe, "
    'or of a file of models): `frozen: {kind: timm, model: "local-dir:FOLDER"}`.'
)


@dataclass(frozen=True, kw_only=True)
class StandingRow:
    """A model beside the lead: `tasks` that both have ("5 of 7"), the means of both over these, and the
    lead's paired difference; `note` names the tasks that the model cannot do.
    """

    name: str
    css: str
    role: str
    tasks: str
    mean: Cell
    lead_mean: str = ""
    difference: Cell | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The table; `remark` says that no frozen encoder is there, and how to name one. Empty else."""

    rows: tuple[StandingRow, ...]
    remark: str


def standing(results: Results, styles: Sequence[ModelStyle]) -> Standing | None:
    """The lead, then every model that it is compared with; None where no task counts in the mean."""
    lead = next((style for style in styles if style.lead), None)
    counted = [task.name for task in results.tasks if task.include_in_mean]
    if lead is None or not counted:
        return None
    compared = {row.other: row for row in results.comparisons if row.model == lead.name}
    shown = [style for style in styles if style.lead or style.name in compared]
    rows = [_row(results, style, compared.get(style.name), counted) for style in shown]
    plain = any(style.role == "frozen" for style in styles)
    remark = "" if plain else f"No frozen encoder stands beside {phrases(styles).who}. {_HOW}"
    return Standing(rows=tuple(rows), remark=remark if lead.role == "student" else "")


def _row(
    results: Results, style: ModelStyle, compared: Comparison | None, counted: Sequence[str]
) -> StandingRow:
    """A model's row; of the lead, which is compared with nothing, its own mean alone."""
    done = compared.tasks if compared else sum(_has(results, style.name, task) for task in counted)
    seen = results.seen(style.name, MEAN_TASK)
    row = StandingRow(
        name=style.name,
        css=style.css,
        role=style.words,
        tasks=f"{done} of {len(counted)}",
        mean=score_cell(results.main(style.name, MEAN_TASK), bound_digits=3, seen=seen),
        note=_without(results, style.name, counted),
    )
    if compared is None:
        return row
    return replace(
        row,
        mean=Cell(value=number(compared.other_mean), seen=seen),
        lead_mean=number(compared.mean),
        difference=verdict_cell(compared.mean_difference, compared.low, compared.high),
    )


def _has(results: Results, model: str, task: str) -> bool:
    row = results.main(model, task)
    return row is not None and row.value is not None


def _without(results: Results, model: str, counted: Sequence[str]) -> str:
    """`without zero-shot, retrieval: no text tower`; empty for a model that does all tasks."""
    rows = {task: results.main(model, task) for task in counted if not _has(results, model, task)}
    if not rows:
        return ""
    reasons = dict.fromkeys(absence_reason(row) for row in rows.values() if row is not None and row.note)
    named = ", ".join(plain_name(task) for task in rows)
    return f"without {named}" + (f": {'; '.join(reasons)}" if reasons else "")
