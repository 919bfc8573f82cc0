"""Runs a recipe step by step; what is done and unchanged is skipped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from meddistill.errors import MOST_LINES, ConfigError, UserError
from meddistill.files import printable, write_changed
from meddistill.licences import enforce
from meddistill.progress import Progress
from meddistill.recipes.banks import unmet_by_banks, unused_banks
from meddistill.recipes.derived import names_taken
from meddistill.recipes.load import LoadedRecipe
from meddistill.recipes.mistakes import naming_teacher
from meddistill.recipes.requirements import of_unit_length, unmet_requirements, unused_teachers
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.session import Session
from meddistill.recipes.steps.bundle import export
from meddistill.recipes.steps.evaluation import evaluate_models
from meddistill.recipes.steps.features import extract_features
from meddistill.recipes.steps.report import make_report
from meddistill.recipes.steps.training import train_stages
from meddistill.recipes.steps.training_data import check_batches
from meddistill.recipes.tables import check_suite, check_validation, idle_baselines, notes_of_rows
from meddistill.recipes.text_tower import UNTRAINED
from meddistill.recipes.tokenizer import keep_tokenizer

Step = Literal["features", "train", "evaluate", "export", "report"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)

# Training runs in all processes; every other step in the main one, while the others wait.
_RUN: Final[Mapping[Step, Callable[[Session], None]]] = {
    "features": extract_features,
    "train": train_stages,
    "evaluate": evaluate_models,
    "export": export,
    "report": make_report,
}


def run_recipe(
    loaded: LoadedRecipe, out: Path, *, until: Step, progress: Progress, again: Sequence[Step] = ()
) -> Session:
    """Run the recipe in folder `out` up to and including step `until`, and return the session.

    Steps whose inputs have not changed since they finished are skipped; those in `again` are not.

    Raises
    ------
    UserError
        Of any kind: for data, teachers, licences or files that do not allow the step.
    """
    shown = printable(str(out.absolute()))
    if shown != str(out.absolute()):
        msg = f"`--out` must be a path in UTF-8, for libraries write there; got {shown}. Choose another."
        raise UserError(msg)
    folder = RunFolder(out)
    ConfigError.raise_any("run folder", folder.of_another(loaded.recipe.name))
    session = Session(loaded, folder, progress=progress)
    with session.processes_folder(shared=until == "features"):
        if session.is_main_process:
            _look(session, until)
        _work(session, until, again=again)
    return session


def _look(session: Session, until: Step) -> None:
    """Refuse what cannot run, the teachers' own recipes included, before anything is trained."""
    enforce(session.recipe.licence_policy, session.licence_components, gate="extract")
    _look_at_models(session, until)
    for name, run in session.teacher_runs.items():
        with naming_teacher(name):
            _look(run, "train")
    _look_at_data(session, until)


def _work(session: Session, until: Step, *, again: Sequence[Step] = ()) -> None:
    """Train the teachers that have recipes, then do the steps up to `until`."""
    if session.is_main_process:
        session.decoded.write()
        if STEPS.index(until) >= STEPS.index("train"):
            _keep_tokenizer(session)
        for step in again:
            session.folder.forget(step)
        write_changed(session.folder.recipe, session.loaded.as_yaml().encode())
    _train_teachers(session)
    for step in STEPS[: STEPS.index(until) + 1]:
        if step == "train" or session.is_main_process:
            _RUN[step](session)
        session.processes.wait()


def _train_teachers(session: Session) -> None:
    """One after the other, in all processes; several extractions at once wait for the one that trains."""
    if not session.teacher_runs:
        return
    session.drop_teachers()
    for name, run in session.teacher_runs.items():
        with naming_teacher(name), run.processes_folder(shared=False, waiting=True):
            _work(run, "train")
    session.take_trained_teachers()


def _look_at_models(session: Session, until: Step) -> None:
    """Refuse teachers that lack what is needed, and a student that cannot be, before an image is read."""
    mistakes = unmet_requirements(session.recipe, session.cards)
    mistakes += unmet_by_banks(session.recipe, session.banks, base=session.base)
    mistakes += names_taken(session.recipe, base=session.base)
    ConfigError.raise_any("teachers and banks", mistakes)
    if STEPS.index(until) >= STEPS.index("train"):
        _ = session.student  # built, or refused
    if STEPS.index(until) >= STEPS.index("evaluate"):
        _ = session.baselines  # loaded, or refused


def _keep_tokenizer(session: Session) -> None:
    size = session.recipe.student.text.vocabulary
    if size is not None and session.tokenizer is not None:
        keep_tokenizer(
            session.tokenizer, session.samples, size, folder=session.folder, progress=session.progress
        )


def _look_at_data(session: Session, until: Step) -> None:
    """Refuse bad rows of every table before hours are spent; list those that are left out."""
    for table in (session.samples, session.validation_table):
        for row in () if table is None else table.skipped[:MOST_LINES]:
            session.progress.say(f"left out: {row}")
    notes = (*of_unit_length(session.recipe), *session.banks.notes, *unused_banks(session.recipe))
    for line in (*notes_of_rows(session), *notes):
        session.progress.say(line)
    ConfigError.raise_any("teachers", unused_teachers(session.recipe, session.samples))
    if STEPS.index(until) >= STEPS.index("train"):
        if not session.text_is_trained:
            session.progress.say(UNTRAINED)
        check_batches(session, session.cards, student=session.student)
    check_validation(session, session.cards)
    if STEPS.index(until) >= STEPS.index("evaluate"):
        check_suite(session)
        cards = {name: model.card for name, model in session.baselines.items()}
        for line in idle_baselines(session.loaded.suite, cards):
            session.progress.say(line)
