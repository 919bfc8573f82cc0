"""The student as a bundle, with the numbers that it earned and the licences that it inherits."""

from meddistill.bundle.export import Origin, export_bundle
from meddistill.bundle.manifest import is_whole
from meddistill.bundle_format import MANIFEST
from meddistill.evaluation.base.results import RESULTS_FILE, Results
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig
from meddistill.recipes.run_folder import digest
from meddistill.recipes.session import Session
from meddistill.students.fingerprint import student_fingerprint
from meddistill.students.folder import load_student
from meddistill.students.initial.licence import initial_licence


def export(session: Session) -> None:
    """Export the bundle, unless the recipe asks for none or one of the same student is there."""
    recipe, folder = session.recipe, session.folder
    if recipe.bundle is None:
        return
    student = load_student(folder.student)
    results = Results.load(folder.evaluation) if (folder.evaluation / RESULTS_FILE).is_file() else None
    suite = session.loaded.suite
    prompts = [task for task in suite.tasks if isinstance(task, ZeroShotConfig)] if suite else []
    inputs = {
        "student": student_fingerprint(student),
        "bundle": recipe.bundle.model_dump(mode="json"),
        "results": digest(results.model_dump(mode="json")) if results else None,
        "policy": recipe.licence_policy,
        "licences": session.licence_inputs,
        "name": recipe.name,
        "data": session.samples.table_hash,
    }
    if session.may_skip("export", inputs, there=is_whole(folder.bundle)):
        return
    session.progress.say("exporting the bundle and comparing it with the student")
    origin = Origin(
        name=recipe.name,
        policy=recipe.licence_policy,
        cards=tuple(teacher.card for teacher in session.teachers.values()),
        initial_weights=initial_licence(recipe.student, base=session.base),
        data=recipe.data.terms,
        student=recipe.student,
        text_trained=session.text_is_trained,
    )
    manifest = export_bundle(
        student,
        folder.bundle,
        origin=origin,
        samples=session.samples,
        prompts=prompts,
        results=results,
        options=recipe.bundle,
    )
    if manifest.int8 is not None and manifest.int8.left_out_because:
        session.progress.say(f"int8 towers left out: {'; '.join(manifest.int8.left_out_because)}")
    folder.finish("export", inputs, files=[folder.bundle / MANIFEST])
