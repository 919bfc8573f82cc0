"""Student, teachers and baselines through the suite."""

from typing import Any

from meddistill.evaluation.base.results import RESULTS_FILE, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.models.protocols import Embedder
from meddistill.evaluation.models.torch_models import ModelEmbedder, load_student_as_teacher
from meddistill.recipes.frozen_models import role_of
from meddistill.recipes.run_folder import digest
from meddistill.recipes.session import Session
from meddistill.recipes.teacher_inputs import stated_scale


def evaluate_models(session: Session) -> None:
    """Evaluate every model on the recipe's suite, unless that is done; needs the trained student.

    Then the session has the results. Without `evaluate` in the recipe it has none.
    """
    recipe, suite, tables = session.recipe, session.loaded.suite, session.suite_tables
    if recipe.evaluate is None or suite is None or tables is None:
        return
    models = _models(session)
    inputs: dict[str, Any] = {
        "suite": digest(suite.model_dump(mode="json")),
        "tables": tables.digests(),
        "models": {model.name: model.fingerprint for model in models},
        "pretraining": {model.name: list(model.pretraining_data) for model in models},
    }
    cards = [each.card for each in (*session.teachers.values(), *session.baselines.values())]
    stated = {card.id: scale for card in cards for scale in stated_scale(card).values()}
    if stated:
        inputs["stated_scales"] = stated
    frozen = [model.name for model in models if model.role == "frozen"]
    if frozen:
        inputs["frozen"] = frozen
    if recipe.report.examples:
        inputs["examples"] = True

    def work() -> None:
        for line in tables.row_notes:
            session.progress.say(f"evaluation: {line}")
        evaluate(
            models,
            suite,
            base=session.loaded.suite_base,
            folder=session.folder.evaluation,
            progress=session.progress,
            examples=recipe.report.examples,
            tables=tables,
        )

    session.run_step("evaluate", inputs, work, files=[session.folder.evaluation / RESULTS_FILE])
    session.results = Results.load(session.folder.evaluation)


def _models(session: Session) -> list[Embedder]:
    settings = session.recipe.evaluate
    if settings is None:
        return []
    size = settings.batch_size
    device = session.processes.device
    student = load_student_as_teacher(session.folder.student).to(device)
    compared = [
        ModelEmbedder(session.baselines[name], name=name, role=role_of(config), batch_size=size)
        for name, config in settings.baselines.items()
    ]
    compared.sort(key=lambda each: each.role != "frozen")
    seeing = [each for each in session.teachers.values() if each.is_runnable and "image" in each.card.signals]
    return [
        ModelEmbedder(student, name="student", role="student", batch_size=size),
        *compared,
        *(ModelEmbedder(teacher, batch_size=size) for teacher in seeing),
    ]
