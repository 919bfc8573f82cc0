"""The tables of a run beside one another: rows that must be nobody else's, and what is told of them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from meddistill.data.samples import Samples, row_notes
from meddistill.errors import ConfigError, UserError
from meddistill.evaluation.engine.registry import TASKS
from meddistill.evaluation.engine.suite_check import TrainingRows, check_tasks, leaks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.features.availability import availability
from meddistill.recipes.derived import planned_teachers, with_derived
from meddistill.recipes.fused_recall import LEAST_PAIRS, too_few_pairs
from meddistill.recipes.session import Session
from meddistill.teachers.card import TeacherCard

_VALIDATION = "data.validation"


def check_validation(session: Session, cards: Mapping[str, TeacherCard] | None) -> None:
    """Raise ConfigError where `data.validation` has too few pairs, or rows that are learnt from.

    Those that a teacher of kind `recipe` learns from count too: it would be chosen by what it knows by heart.
    With the `cards` of all teachers the pairs of each stage are those that its teachers may be asked about by
    modality and column; what agreement takes away shows once the features are there.
    """
    chosen = _validation_rows(session, _VALIDATION)
    if chosen is None:
        return
    mistakes: list[str] = []
    tables = [_training_rows(session, "data.train"), *_training_rows_of_teachers(session)]
    for trained_on in _different(tables):
        mistakes += leaks(trained_on, chosen)
    if len(chosen.samples) < LEAST_PAIRS:
        mistakes.append(
            f"`data.validation` must have {LEAST_PAIRS} pairs of image and caption at least; got "
            f"{len(chosen.samples)}. Name its column of captions in `text`, or add rows."
        )
    elif cards:
        mistakes += _too_few_available(session, chosen.samples, cards)
    ConfigError.raise_any("data", mistakes)


def _too_few_available(session: Session, pairs: Samples, cards: Mapping[str, TeacherCard]) -> list[str]:
    recipe = session.recipe
    masks = availability(pairs, cards, recipe.features.availability, store=None).masks
    planned = planned_teachers(recipe)
    available = with_derived(masks, cards, planned, pairs.captioned)
    return [
        f"stage {name}: {line}"
        for name, each in planned.items()
        if name in available and not each.by_pair
        for line in too_few_pairs(int(available[name].sum()), of=len(pairs))
    ]


def check_suite(session: Session, *, against_training: bool = True) -> None:
    """Raise TableError or ConfigError with all that the suite's tables and tasks have wrong.

    `against_training` also looks for patients and images that the student or a teacher of kind `recipe`
    learns from or is chosen by.
    """
    suite, tables = session.loaded.suite, session.suite_tables
    if suite is None or tables is None:
        return
    trained_on = []
    if against_training:
        chosen = _validation_rows(session, _VALIDATION)
        trained_on = [_training_rows(session, "the training table"), *([] if chosen is None else [chosen])]
        trained_on += _rows_of_teachers(session)
    check_tasks(suite, tables, *_different(trained_on))


def idle_baselines(suite: SuiteConfig | None, cards: Mapping[str, TeacherCard]) -> list[str]:
    """One line for every baseline without a text tower, where each task of the suite needs one."""
    if suite is None or not all(TASKS[task.kind].needs_text for task in suite.tasks):
        return []
    return [
        f"baseline {name} has no text tower, which every task of the suite needs: it will have no score. Add "
        "a task on images alone to the suite, such as a linear_probe, or leave it out"
        for name, card in cards.items()
        if "text" not in card.signals
    ]


def notes_of_rows(session: Session) -> tuple[str, ...]:
    """How many rows of the run's tables are left out, flat or without a caption; none of their cells.

    With the stages that have no use for rows without one.
    """
    notes = list(row_notes(session.samples, "training table"))
    rows, without = len(session.samples), len(session.samples) - len(session.samples.captions)
    if without:
        idle = [stage.name for stage in session.recipe.stages if stage.only_captioned]
        part = f"; they are left out of {', '.join(idle)}" if idle else ""
        notes.append(f"training table: {without:,} of {rows:,} rows have no caption{part}")
    whole, pairs = session.validation_table, session.validation
    if whole is not None and pairs is not None:
        if all(each.by_pair for each in planned_teachers(session.recipe).values()):
            notes.append("validation table: no stage looks at it, but its rows are read with the others")
        notes += row_notes(whole, "validation table")
        if len(pairs) < len(whole):
            alone = len(whole) - len(pairs)
            notes.append(
                f"validation table: {alone:,} of {len(whole):,} rows have no caption; they are left out"
            )
    return tuple(notes)


def _training_rows(session: Session, table: str) -> TrainingRows:
    return TrainingRows(samples=session.samples, keys=session.image_keys, table=table)


def _different(tables: Iterable[TrainingRows]) -> list[TrainingRows]:
    """Tables of the same rows as one, which has the names of all: what leaks into one leaks into each."""
    found: dict[Any, TrainingRows] = {}
    for each in tables:
        same = (each.samples.rows, each.samples.patients, tuple(each.keys))
        names = [found[same].table] if same in found else []
        found[same] = replace(each, table=", ".join([*names, each.table]))
    return list(found.values())


def _validation_rows(session: Session, table: str) -> TrainingRows | None:
    if session.validation is None:
        return None
    return TrainingRows(samples=session.validation, keys=session.validation_keys, table=table)


def _training_rows_of_teachers(session: Session) -> Iterator[TrainingRows]:
    """What the teachers of kind `recipe` learn from, their own such teachers too."""
    for name, run in _all_teacher_runs(session):
        with suppress(UserError):  # told with the teacher's own recipe
            yield _training_rows(run, f"data.train of teacher {name}")


def _rows_of_teachers(session: Session) -> Iterator[TrainingRows]:
    """What they learn from, and what they are chosen by."""
    yield from _training_rows_of_teachers(session)
    for name, run in _all_teacher_runs(session):
        with suppress(UserError):
            if (chosen := _validation_rows(run, f"data.validation of teacher {name}")) is not None:
                yield chosen


def _all_teacher_runs(session: Session) -> Iterator[tuple[str, Session]]:
    for name, run in session.teacher_runs.items():
        yield name, run
        yield from ((f"{inner} of {name}", each) for inner, each in _all_teacher_runs(run))
