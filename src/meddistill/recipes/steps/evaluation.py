"""Student, teachers and baselines through the suite."""

from pathlib import Path
from typing import Any

from meddistill.evaluation.embedders import ModelEmbedder, load_student_as_teacher
from meddistill.evaluation.evaluate import evaluate
from meddistill.evaluation.predict import Embedder, Role
from meddistill.evaluation.results import RESULTS_FILE
from meddistill.recipes.run_folder import digest
from meddistill.recipes.session import Session


def evaluate_models(session: Session) -> None:
    """Judge every model on the recipe's suite, unless that is done; needs the trained student."""
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
    teachers = session.teacher_inputs.items()
    stated = {name: facts["logit_scale"] for name, facts in teachers if "logit_scale" in facts}
    if stated:
        inputs["stated_scales"] = stated
    if recipe.report.examples:
        inputs["examples"] = True
    results = session.folder.evaluation / RESULTS_FILE
    if session.may_skip("evaluate", inputs, there=results.is_file()):
        return
    for line in tables.skipped:
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
    session.folder.finish("evaluate", inputs, files=[results])


def _models(session: Session) -> list[Embedder]:
    settings = session.recipe.evaluate
    if settings is None:
        return []
    size = settings.batch_size
    device = session.processes.device
    folders: list[tuple[str, Role, Path]] = [("student", "student", session.folder.student)]
    folders += [(name, "baseline", session.base / folder) for name, folder in settings.baselines.items()]
    models: list[Embedder] = [
        ModelEmbedder(load_student_as_teacher(folder).to(device), name=name, role=role, batch_size=size)
        for name, role, folder in folders
    ]
    seeing = [
        each
        for each in session.teachers.values()
        if each.can_be_asked and "image_embedding" in each.card.capabilities
    ]
    return [*models, *(ModelEmbedder(teacher, batch_size=size) for teacher in seeing)]
