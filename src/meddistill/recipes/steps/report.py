"""Results, audit, curves and facts of a run as one HTML file."""

import time

import torch

from meddistill import __version__
from meddistill.bundle.truncation import caption_lengths
from meddistill.evaluation.audit.record import Audit
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.models.protocols import Role
from meddistill.features.reader import FeatureStore
from meddistill.features.summary import summarize
from meddistill.licences import join
from meddistill.recipes.frozen_models import role_of
from meddistill.recipes.run_folder import digest
from meddistill.recipes.schema import AnyStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.audit import audit_run
from meddistill.recipes.steps.fusion import fusion_facts
from meddistill.recipes.tables import notes_of_rows
from meddistill.recipes.text_tower import UNTRAINED
from meddistill.report.curves import read_curves
from meddistill.report.data import Captions, Curves, ModelCard, ReportData
from meddistill.report.examples import TableExamples
from meddistill.report.formatting import plural
from meddistill.report.write import write_report
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import load_student
from meddistill.students.size import measure_latency, model_size
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.training.log import LOG_FILE


def make_report(session: Session) -> None:
    """Write the report, unless one of the same results is there."""
    results, audit = session.results, audit_run(session)
    inputs = {
        "recipe": digest(session.recipe.model_dump(mode="json")),
        "student": session.folder.facts("student").get("finished"),
        "results": digest(results.model_dump(mode="json")) if results else None,
        "audit": digest(audit.model_dump(mode="json")) if audit else None,
    }
    path = session.folder.report

    def work() -> None:
        write_report(_report_data(session, results, audit), path)

    session.run_step("report", inputs, work, files=[path])


def _report_data(session: Session, results: Results | None, audit: Audit | None) -> ReportData:
    recipe = session.recipe
    student = load_student(session.folder.student).to(session.processes.device)
    lengths = caption_lengths(student.tokenizer, session.samples.captions)
    components = session.licence_components
    threads = torch.get_num_threads()
    return ReportData(
        title=recipe.name,
        subtitle=recipe.about.what,
        created=time.strftime("%d %B %Y"),
        version=__version__,
        results=results,
        audit=audit,
        models=[_student_card(session, student), *_compared_cards(session), *_teacher_cards(session)],
        speed_conditions=f"{session.processes.device.type.upper()}, {plural(threads, 'thread')}, float32",
        curves=_curves(session),
        student_terms=join(components.values()) if components else None,
        policy=recipe.licence_policy,
        captions=Captions(**lengths.model_dump(exclude={"rate"})) if lengths else None,
        facts=_facts(session),
        recipe_yaml=session.loaded.as_yaml(),
        command=session.loaded.command,
        warnings=(*notes_of_rows(session), *(() if session.text_is_trained else (UNTRAINED,))),
        examples=_examples(session) if results else None,
    )


def _why_idle(stage: AnyStage) -> str:
    reasons = ["without a caption"] if stage.only_captioned else []
    if stage.needs_teachers:
        reasons.append("with too few teachers available")
    return " or ".join(reasons)


def _examples(session: Session) -> TableExamples | None:
    suite, tables = session.loaded.suite, session.suite_tables
    if suite is None or tables is None or not session.recipe.report.examples:
        return None
    return TableExamples(suite, tables)


def _student_card(session: Session, student: DualEncoder) -> ModelCard:
    size = model_size(student)
    spec = student.input
    speed = measure_latency(student.embed_images, spec.geometry, device=session.processes.device)
    components = session.licence_components
    return ModelCard(
        name="student",
        role="student",
        source=session.recipe.name,
        licence=join(components.values()) if components else None,
        parameters=size.parameters,
        megabytes=size.megabytes,
        images_per_second=speed.images_per_second,
        input_size=(spec.height, spec.width),
        embed_dim=student.embed_dim,
        context_length=student.context_length,
        pretraining_data=session.provenance.pretraining_data,
    )


def _compared_cards(session: Session) -> list[ModelCard]:
    settings = session.recipe.evaluate
    configs = settings.baselines if settings else {}
    return [_card(model, name, role_of(configs[name])) for name, model in session.baselines.items()]


def _teacher_cards(session: Session) -> list[ModelCard]:
    return [_card(teacher, name, "teacher") for name, teacher in session.teachers.items()]


def _card(teacher: FrozenTeacher, name: str, role: Role) -> ModelCard:
    card, spec = teacher.card, teacher.card.input
    sees = spec is not None and teacher.is_runnable and "image" in card.signals
    speed = (
        measure_latency(teacher.image_embeddings, spec.geometry, device=teacher.device)
        if spec is not None and sees
        else None
    )
    return ModelCard.of(
        card,
        name=name,
        role=role,
        megabytes=sum(model_size(module).megabytes for module in teacher.modules) or None,
        images_per_second=speed.images_per_second if speed else None,
    )


def _curves(session: Session) -> list[Curves]:
    stages = session.recipe.stages
    return [
        read_curves(session.folder.stage(stage.name) / LOG_FILE, stage=stage.name, method=stage.method)
        for stage in stages
    ]


def _facts(session: Session) -> list[tuple[str, str]]:
    samples = session.samples
    facts = [
        ("Pairs of image and caption", f"{len(samples.captions):,}"),
        ("Rows without a caption", f"{len(samples) - len(samples.captions):,}"),
        ("Distinct images", f"{len(set(session.image_keys)):,}"),
        ("Patients", f"{len(set(samples.patients)):,}"),
        ("Rows left out", f"{len(samples.skipped_rows):,}"),
    ]
    if (session.folder.features / "manifest.json").is_file():
        store = summarize(FeatureStore.open(session.folder.features))
        precision = session.recipe.features.precision
        facts.append(
            ("Feature store", f"{store.bytes / 1e6:,.1f} MB, {precision}, {plural(store.views, 'view')}")
        )
    for stage in session.recipe.stages:
        done = session.folder.facts(f"stage {stage.name}")
        if done:
            words = f"{done['steps']:,} steps in {done['seconds']:,.0f} s"
            if done["rows"] < len(samples):
                idle = f"{len(samples) - done['rows']:,} of {len(samples):,} rows have no part"
                words += f"; {idle}, {_why_idle(stage)}"
            facts.append((f"Stage {stage.name}", words))
    return [*facts, *fusion_facts(session)]
