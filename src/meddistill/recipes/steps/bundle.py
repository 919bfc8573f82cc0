"""The student as a bundle, with the numbers that it earned and the licences that it inherits."""

from meddistill.bundle.export import Origin, export_bundle
from meddistill.bundle.manifest import is_whole
from meddistill.bundle_format import MANIFEST
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig
from meddistill.recipes.run_folder import digest
from meddistill.recipes.session import Session
from meddistill.students.fingerprint import student_fingerprint
from meddistill.students.folder import load_student
from meddistill.students.initial.licence import initial_licence


def export(session: Session) -> None:
    """Export the bundle, unless the recipe asks for none or one of the same student is there."""
    recipe, folder, options = session.recipe, session.folder, session.recipe.bundle
    if options is None:
        return
    student = load_student(folder.student)
    results = session.results
    suite = session.loaded.suite
    prompts = [task for task in suite.tasks if isinstance(task, ZeroShotConfig)] if suite else []
    inputs = {
        "student": student_fingerprint(student),
        "bundle": options.model_dump(mode="json"),
        "results": digest(results.model_dump(mode="json")) if results else None,
        "policy": recipe.licence_policy,
        "licences": session.licence_inputs,
        "name": recipe.name,
        "data": session.samples.table_hash,
    }

    def work() -> None:
        session.progress.say("exporting the bundle and comparing it with the student")
        manifest = export_bundle(
            student,
            folder.bundle,
            origin=_origin(session),
            samples=session.samples,
            prompts=prompts,
            results=results,
            options=options,
        )
        if manifest.int8 is not None and manifest.int8.left_out_because:
            session.progress.say(f"int8 towers left out: {'; '.join(manifest.int8.left_out_because)}")

    files, there = [folder.bundle / MANIFEST], is_whole(folder.bundle)
    session.run_step("export", inputs, work, files=files, there=there)


def _origin(session: Session) -> Origin:
    recipe = session.recipe
    return Origin(
        name=recipe.name,
        policy=recipe.licence_policy,
        cards=tuple(session.cards.values()),
        initial_weights=initial_licence(recipe.student, base=session.base),
        data=recipe.data.terms,
        student=recipe.student,
        text_trained=session.text_is_trained,
    )
