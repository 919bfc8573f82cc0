"""The section on visual question answering: accuracies by type, and questions with their answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from meddistill.evaluation.base.exhibits import AnsweredQuestion
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.evaluation.tasks.vqa.metrics import MACRO, MAIN
from meddistill.report.data import Examples
from meddistill.report.formatting import count, plain_name, plural, shade_of
from meddistill.report.models import REFERENCE_CSS, ModelStyle, lead_name, references
from meddistill.report.scores import Cell, Matrix, Title, score_cell
from meddistill.report.sections import data_address

FAMILIES: Final = ("vqa_closed_set", "vqa_zero_shot")
_COLUMNS: Final = (
    (MAIN, "overall"),
    (f"{MAIN}_open", "open"),
    (f"{MAIN}_closed", "closed"),
    (f"{MAIN}_answerable", "answerable"),
    (MACRO, "mean over types"),
)
_POLICIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "train": "those of the training questions",
        "trainval": "those of the training and validation questions",
        "all": "those of all questions, the tested ones too",
    }
)
_SHOWN: Final = 6
_BY_TYPE: Final = "question type: "


@dataclass(frozen=True, kw_only=True)
class AnsweredExample:
    """A question about an image, the right answer and the model's; empty where they are withheld."""

    right: bool
    question_type: str
    picture: str
    question: str
    truth: str
    given: str


@dataclass(frozen=True, kw_only=True)
class VqaTable:
    """One task: models by kinds of accuracy, what can be answered at all, and some questions of `model`."""

    title: str
    coverage: str
    matrix: Matrix
    notes: tuple[str, ...]
    model: str
    questions: tuple[AnsweredExample, ...]


def vqa_tables(
    results: Results, examples: Examples | None, styles: Sequence[ModelStyle]
) -> tuple[VqaTable, ...]:
    """A table for every task of question answering; without `examples` no words and pictures."""
    return tuple(_table(results, task, examples, styles) for task in results.tasks if task.family in FAMILIES)


def _table(
    results: Results, task: TaskFacts, examples: Examples | None, styles: Sequence[ModelStyle]
) -> VqaTable:
    rows = {
        (row.model, row.metric, row.setting): row for row in results.of(task=task.name) if not row.modality
    }
    settings = sorted({setting for _, _, setting in rows if setting.startswith(_BY_TYPE)})
    measured = {(metric, setting) for _, metric, setting in rows}
    wanted = [(metric, "", title) for metric, title in _COLUMNS if (metric, "") in measured]
    wanted += [(MAIN, setting, setting.removeprefix(_BY_TYPE)) for setting in settings]
    sizes = {(row.metric, row.setting): row.n for row in rows.values() if row.n}
    matrix = Matrix(
        columns=tuple(
            Title(name=title, note=f"n = {count(sizes.get((metric, setting), 0))}")
            for metric, setting, title in wanted
        ),
        rows=tuple(
            (
                Title(name=style.name, css=style.css, muted=style.css == REFERENCE_CSS),
                tuple(_cell(rows.get((style.name, metric, setting))) for metric, setting, _ in wanted),
            )
            for style in (*styles, *references(results, task.name))
            if (style.name, MAIN, "") in rows
        ),
    )
    shown = lead_name(styles)
    return VqaTable(
        title=plain_name(task.name),
        coverage=coverage(task),
        matrix=matrix,
        notes=_notes(results, task),
        model=shown,
        questions=_questions(results, task.name, shown, examples) if examples else (),
    )


def _cell(row: Result | None) -> Cell:
    return score_cell(row, shade=shade_of(row.value or 0.0) if row else None)


def coverage(task: TaskFacts) -> str:
    """`160 questions of 33 patients; 174 answers (trainval: ...); 91.2 % of them have theirs among these`."""
    facts = task.facts
    policy = str(facts.get("answer_vocabulary", ""))
    whose = f"{policy}: {_POLICIES[policy]}" if policy in _POLICIES else policy
    most = facts.get("candidates", 0)
    narrowed = f", at most {count(most)} to a question" if most and most < facts.get("answers", 0) else ""
    return (
        f"{plural(task.n, 'question')} of {plural(task.patients, 'patient')}; "
        f"{plural(facts.get('answers', 0), 'answer')} can be given ({whose}){narrowed}; "
        f"{100 * facts.get('coverage', 0):.1f} % of the test questions have theirs among them"
    )


def _notes(results: Results, task: TaskFacts) -> tuple[str, ...]:
    """What models answer with, and why some do not."""
    return tuple(f"{row.model}: {row.note}" for row in results.of(task=task.name) if row.main and row.note)


def _questions(results: Results, task: str, model: str, examples: Examples) -> tuple[AnsweredExample, ...]:
    answered = results.exhibits_of(AnsweredQuestion, task=task, model=model)
    return tuple(_example(each, examples) for each in answered[:_SHOWN])


def _example(row: AnsweredQuestion, examples: Examples) -> AnsweredExample:
    return AnsweredExample(
        right=row.right,
        question_type=row.question_type,
        picture=data_address(examples.picture(row.table, row.row)),
        question=examples.question(row.task, row.table, row.row),
        truth=examples.answer(row.task, row.table, row.row),
        given="" if row.answer_row is None else examples.answer(row.task, row.answer_table, row.answer_row),
    )
