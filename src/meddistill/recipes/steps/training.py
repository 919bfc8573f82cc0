"""The student through its stages, each from where the one before left it."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import torch

from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pairs import refuse_idle, statistics_of_pairs
from meddistill.features.reader import FeatureStore
from meddistill.features.sources import OnlineTeachers, StoredTeachers, TeacherSource
from meddistill.features.statistics import Statistics
from meddistill.fusion.config import FusionConfig
from meddistill.fusion.network import FusionNetwork
from meddistill.fusion.trainee import FusionTrainee
from meddistill.licences import enforce
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.objectives.base import TowerStatistics
from meddistill.recipes.run_folder import digest
from meddistill.recipes.schema import AnyStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.bank_features import bank_features
from meddistill.recipes.steps.fusion import derive, fused_recall, leave_out, validation_of
from meddistill.recipes.steps.projections import stage_pairs, target_maps
from meddistill.recipes.steps.training_data import StageRows, stage_data, stage_rows
from meddistill.recipes.teacher_inputs import teacher_inputs
from meddistill.signals import TOWERS, Signal, Tower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.fingerprint import student_fingerprint
from meddistill.students.folder import is_whole, save_student
from meddistill.students.metadata import METADATA_FILE
from meddistill.training.config import FREE_ON_RESUME
from meddistill.training.loop import Stage, train_stage


def train_stages(session: Session) -> None:
    """Train every stage that is not done, then write the student folder."""
    recipe = session.recipe
    enforce(recipe.licence_policy, session.licence_components, gate="train")
    student = session.student
    initial = student_fingerprint(student)
    for stage in recipe.stages:
        _train(session, stage, student, initial=initial)
        if stage.trains_student:
            initial = student_fingerprint(student)
    if not session.is_main_process:
        return
    inputs: dict[str, Any] = {
        "weights": initial,
        "licences": session.licence_inputs,
        "name": recipe.name,
    }
    if not session.text_is_trained:
        inputs["text_trained"] = False
    place = session.folder.student
    if not (is_whole(place) and session.folder.state("student", inputs).done):
        save_student(student, place, provenance=session.provenance, config=recipe.student)
        session.folder.finish("student", inputs, files=[place / METADATA_FILE])


def _train(session: Session, stage: AnyStage, student: DualEncoder, *, initial: str) -> None:
    if stage.derived_dim is not None and leave_out(session, stage):
        return
    step = f"stage {stage.name}"
    folder = session.folder.stage(stage.name)
    rows = stage_rows(session, stage)
    source = _source(session, stage, rows)
    trainee = _trainee(stage, student, rows, source)
    recall = fused_recall(session, stage, rows)
    _say_who_is_left_out(session, stage, rows)
    with closing(stage_data(session, stage, student, rows)) as data:
        inputs = {
            "stage": stage.model_dump(mode="json", exclude=set(FREE_ON_RESUME)),
            **({"initial": initial} if stage.trains_student else {}),
            "data": data.fingerprint,
            **(session.tokenizer_inputs if stage.trains_student else {}),
            "teachers": teacher_inputs(rows.cards),
            **(session.availability_inputs if stage.needs_teachers else {}),
            **({} if stage.group_column is None else {"groups": digest(rows.samples.groups)}),
            **_bank_inputs(session, stage),
            **({} if recall is None else session.validation_inputs),
        }
        state = session.folder.state(step, inputs)
        if state.changed and session.is_main_process:
            session.progress.say(f"{step}: trained anew, since these changed: {', '.join(state.changed)}")
            shutil.rmtree(folder, ignore_errors=True)
            session.folder.forget(step)  # or an interrupted run would begin anew each time
        elif state.done and session.is_main_process:
            session.progress.say(f"{step}: done already")
        session.processes.wait()
        work = Stage(
            student=trainee,
            method=_method(session, stage, _dim(stage, student), rows=rows, inputs=inputs),
            data=data,
            source=source,
            config=stage,
            inputs={name: given for name, given in inputs.items() if name not in ("stage", "data")},
            licences=session.licence_inputs,
            validation=validation_of(stage, trainee, recall),
        )
        result = train_stage(work, folder, processes=session.processes, progress=session.progress)
    if isinstance(trainee, FusionTrainee):
        derive(session, stage, trainee, rows, weights=result.student, recall=recall)
    if session.is_main_process and not state.done:
        seconds = round(result.wall_seconds, 1)
        session.folder.finish(step, inputs, steps=result.steps, seconds=seconds, rows=len(rows.samples))


def _trainee(
    stage: AnyStage, student: DualEncoder, rows: StageRows, source: TeacherSource | None
) -> DualEncoder | FusionTrainee:
    """What the stage trains: the student, or a network of its own over the stored outputs."""
    if not isinstance(stage, FusionConfig) or source is None:
        return student
    spaces = {name: TeacherSpace.of(card) for name, card in rows.cards.items()}
    return FusionTrainee(FusionNetwork(stage, teachers=spaces, seed=stage.seed), source)


def _say_who_is_left_out(session: Session, stage: AnyStage, rows: StageRows) -> None:
    missing = [name for name in stage.named_teachers or () if name not in rows.cards]
    if missing and session.is_main_process:
        session.progress.say(
            f"stage {stage.name}: goes on without {', '.join(missing)}, whose fused embeddings were left out"
        )


def _dim(stage: AnyStage, student: DualEncoder) -> int:
    return student.embed_dim if stage.derived_dim is None else stage.derived_dim


def _method(
    session: Session, stage: AnyStage, dim: int, *, rows: StageRows, inputs: Mapping[str, Any]
) -> Method:
    spaces: Mapping[str, TeacherSpace] = {}
    if stage.needs_teachers:
        maps = target_maps(session, stage, rows, student_dim=dim, inputs=inputs)
        spaces = _teacher_spaces(session, stage, maps, rows)
    return build_method(
        stage.without_teachers(session.left_out),
        student_dim=dim,
        teachers=spaces,
        seed=stage.seed,
        groups=rows.groups,
    )


def _teacher_spaces(
    session: Session, stage: AnyStage, maps: Mapping[str, LinearMap], rows: StageRows
) -> dict[str, TeacherSpace]:
    """What the stage's method must know of each teacher; with statistics where an objective asks for them."""
    stored = session.recipe.features.source == "stored"
    statistics = _statistics(session, rows) if stored and stage.uses_statistics else {}
    banks = bank_features(session, stage, rows)
    return {
        name: TeacherSpace.of(
            card,
            statistics=statistics.get(name),
            target_map=maps.get(name),
            banks=banks.get(name),
        )
        for name, card in rows.cards.items()
    }


def _bank_inputs(session: Session, stage: AnyStage) -> dict[str, Any]:
    """What decides the stage's banks; empty without any."""
    banks = {name: session.bank(name).fingerprint for name in stage.banks}
    return {"banks": banks} if banks else {}


def _statistics(session: Session, rows: StageRows) -> dict[str, dict[Tower, TowerStatistics]]:
    """Of each teacher's outputs for the samples of the stage that it is available for."""
    store = FeatureStore.open(session.folder.features)
    pairs = stage_pairs(store, rows)
    refuse_idle(store, pairs)
    return {name: _by_tower(statistics_of_pairs(store, name, each)) for name, each in pairs.items()}


def _by_tower(statistics: Mapping[Signal, Statistics]) -> dict[Tower, TowerStatistics]:
    return {
        tower: TowerStatistics(
            mean=torch.from_numpy(statistics[tower].mean).float(),
            covariance=torch.from_numpy(statistics[tower].covariance),
        )
        for tower in TOWERS
        if tower in statistics
    }


def _source(session: Session, stage: AnyStage, rows: StageRows) -> TeacherSource | None:
    if not stage.needs_teachers:
        return None
    if session.recipe.features.source == "online":
        device = session.processes.device
        asked = {name: session.teachers[name] for name in rows.cards}
        return OnlineTeachers(asked, device=device, available=rows.available)
    return StoredTeachers(
        FeatureStore.open(session.folder.features),
        rows.samples,
        tuple(rows.cards),
        device=session.processes.device,
        view="consistent" if stage.sees_stored_views else "fixed",
        keys=rows.keys,
        available=rows.available,
    )
