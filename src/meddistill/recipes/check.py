"""Every mistake of a recipe at once, and what its run would cost; nothing is written."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from meddistill.data.keys import text_keys
from meddistill.errors import ConfigError
from meddistill.features.layouts import estimate
from meddistill.licences import LicenceTerms, enforce
from meddistill.progress import SilentProgress
from meddistill.recipes.banks import unmet_by_banks, unused_banks
from meddistill.recipes.derived import names_taken
from meddistill.recipes.frozen_models import FrozenModels, load_baselines, load_teachers
from meddistill.recipes.load import LoadedRecipe
from meddistill.recipes.missing import Missing, missing_initial_weights
from meddistill.recipes.mistakes import Mistakes, of_teacher
from meddistill.recipes.requirements import of_unit_length, unmet_requirements, unused_teachers
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training_data import check_batches
from meddistill.recipes.tables import check_suite, check_validation, idle_baselines, notes_of_rows
from meddistill.recipes.text_tower import UNTRAINED, text_is_trained
from meddistill.recipes.timing import seconds_per_image_of_student, seconds_per_image_of_teacher
from meddistill.recipes.tokenizer import smaller_than_requested
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.initial.start import Taken
from meddistill.students.size import ModelSize, VocabularySize, model_size, vocabulary_size
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take: rows to learn from, bytes on disk, seconds on this machine as it is now.

    `teacher_seconds` is all that the teachers' own recipes take before; `store_bytes` has theirs.
    """

    rows: int
    store_bytes: int
    free_bytes: int
    extraction_seconds: float
    training_seconds: float
    teacher_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StudentSize:
    """The student's parameters, how many of them its vocabulary takes, what it starts from, and what else is
    to be known.
    """

    model: ModelSize
    vocabulary: VocabularySize
    taken: Taken | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A recipe without mistakes: its teachers, the licence that the student would inherit, the cost.

    `baselines` are the cards of what the student is compared with and learns nothing from.

    `student` is None while its initial weights are missing. `missing` names known weights that are not there
    yet, which a run would refuse; of these teachers there are no cards and no cost. `row_notes` names the
    rows that `on_error: skip` would drop, and those of flat pictures.
    """

    cards: Mapping[str, TeacherCard]
    licence: LicenceTerms
    estimate: Estimate
    student: StudentSize | None = None
    missing: tuple[Missing, ...] = ()
    row_notes: tuple[str, ...] = ()
    baselines: Mapping[str, TeacherCard] = field(default_factory=dict)


def check_recipe(loaded: LoadedRecipe, *, subject: str, out: Path) -> CheckResult:
    """Look at tables, teachers, licences and disk.

    Raises
    ------
    ConfigError
        With every mistake found in all of them.
    """
    session, mistakes = Session(loaded, RunFolder(out), progress=SilentProgress()), Mistakes()
    mistakes.lines += session.folder.of_another(loaded.recipe.name)
    return _check(session, subject, mistakes, evaluates=True)


def _check(session: Session, subject: str, mistakes: Mistakes, *, evaluates: bool) -> CheckResult:
    """`mistakes` are those found before. `evaluates`: whether the run goes on to its suite and baselines; a
    teacher's ends with training.
    """
    recipe, base = session.recipe, session.base
    runs = _check_teacher_runs(session, mistakes)
    samples = mistakes.catch(lambda: session.samples)
    if evaluates:
        mistakes.catch(partial(check_suite, session, against_training=samples is not None))
    buildable = {name: load for name, load in session.by_recipe.items() if _is_ready(runs.get(name))}
    loaded = load_teachers(recipe.teachers, base=base, by_recipe=buildable)
    compared = load_baselines(recipe.evaluate.baselines if evaluates and recipe.evaluate else {}, base=base)
    mistakes.lines += [*loaded.mistakes, *compared.mistakes]
    cards = _cards(loaded)
    mistakes.lines.extend(unmet_requirements(recipe, cards))
    mistakes.lines.extend(unmet_by_banks(recipe, session.banks, base=base))
    mistakes.lines.extend(names_taken(recipe, base=base))
    initial = missing_initial_weights(recipe.student, base=base)
    untrained = recipe.student.text.vocabulary is not None and samples is None
    student = None if initial or untrained else mistakes.catch(lambda: session.student)
    if samples is not None:
        mistakes.lines.extend(unused_teachers(recipe, samples))
        known = cards if cards.keys() == recipe.teachers.keys() else None
        mistakes.catch(partial(check_batches, session, known, student=student))
        mistakes.catch(partial(check_validation, session, known))
    missing = (*_missing_of(runs), *loaded.missing, *compared.missing, *initial)
    licence = mistakes.catch(
        lambda: enforce(recipe.licence_policy, session.licence_components, gate="extract")
    )
    if mistakes.lines or samples is None or licence is None:
        lines = list(dict.fromkeys([*mistakes.lines, *map(str, missing)]))
        raise ConfigError(subject, lines, remedy=mistakes.remedy)
    notes = [*notes_of_rows(session), *idle_baselines(session.loaded.suite, _cards(compared))]
    if evaluates and session.suite_tables is not None:
        notes += session.suite_tables.row_notes
    if not missing and not text_is_trained(recipe, samples, cards=cards, taken=session.built.taken):
        notes.append(UNTRAINED)
    of_teachers = [of_teacher(name, note) for name, run in runs.items() for note in run.row_notes]
    return CheckResult(
        cards=cards,
        licence=licence,
        estimate=_cost(session, loaded.models, student, runs),
        student=None if student is None else _size_of(session, student),
        missing=missing,
        row_notes=(
            *notes,
            *of_unit_length(recipe),
            *session.banks.notes,
            *unused_banks(recipe),
            *of_teachers,
        ),
        baselines=_cards(compared),
    )


def _check_teacher_runs(session: Session, mistakes: Mistakes) -> dict[str, CheckResult]:
    """The recipes that train teachers, each looked at by itself; those with mistakes are left out."""
    runs = {}
    for name, run in session.teacher_runs.items():
        try:
            runs[name] = _check(run, name, Mistakes(), evaluates=False)
        except ConfigError as error:
            mistakes.lines += [of_teacher(name, line) for line in error.mistakes]
            mistakes.remedy = mistakes.remedy or error.remedy
    return runs


def _is_ready(run: CheckResult | None) -> bool:
    """Whether what a teacher's recipe trains can be built."""
    return run is not None and run.student is not None and not run.missing


def _missing_of(runs: Mapping[str, CheckResult]) -> list[Missing]:
    return [
        replace(each, before=of_teacher(name, each.before))
        for name, run in runs.items()
        for each in run.missing
    ]


def _cost(
    session: Session,
    teachers: Mapping[str, FrozenTeacher],
    student: DualEncoder | None,
    runs: Mapping[str, CheckResult],
) -> Estimate:
    rows, before = len(session.samples), [run.estimate for run in runs.values()]
    per_image = sum(
        seconds_per_image_of_teacher(teacher) for teacher in teachers.values() if teacher.is_runnable
    )
    per_row = seconds_per_image_of_student(student) if student is not None else 0.0
    return Estimate(
        rows=rows,
        store_bytes=_store_bytes(session, teachers) + sum(each.store_bytes for each in before),
        free_bytes=_free_bytes(session.folder.path),
        extraction_seconds=per_image * _images(session),
        training_seconds=per_row
        * rows
        * sum(stage.epochs for stage in session.recipe.stages if stage.trains_student),
        teacher_seconds=sum(
            each.extraction_seconds + each.training_seconds + each.teacher_seconds for each in before
        ),
    )


def _size_of(session: Session, student: DualEncoder) -> StudentSize:
    size = session.recipe.student.text.vocabulary
    notes = (
        () if size is None or session.tokenizer is None else smaller_than_requested(session.tokenizer, size)
    )
    return StudentSize(
        model=model_size(student),
        vocabulary=vocabulary_size(student),
        taken=session.built.taken,
        notes=notes,
    )


def _cards(loaded: FrozenModels) -> dict[str, TeacherCard]:
    return {name: model.card for name, model in loaded.models.items()}


def _store_bytes(session: Session, teachers: Mapping[str, FrozenTeacher]) -> int:
    recipe = session.recipe
    if not recipe.needs_teachers or recipe.features.source == "online":
        return 0
    more = session.validation
    captions = (*text_keys(session.samples), *(() if more is None else text_keys(more)))
    texts = len({*captions, *session.banks.keys} - {""})
    return estimate(_images(session), texts, teachers.values(), recipe.features)


def _images(session: Session) -> int:
    """How many different images the teachers are asked about."""
    return len({*session.image_keys, *session.validation_keys})


def _free_bytes(out: Path) -> int:
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
