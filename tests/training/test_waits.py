"""Between two logged steps nothing waits for the device."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from meddistill.features.extract import extract
from meddistill.features.sources import StoredTeachers
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import ContrastiveConfig
from meddistill.records import Batch
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.training.loop import Stage, train_stage
from meddistill.training.processes import Processes
from toy_features import SMALL, toy_samples, toy_teacher
from toy_projections import projected
from toy_training import (
    EVERY_OBJECTIVE,
    TEACHER_DIMS,
    ToyData,
    ToyTeachers,
    toy_config,
    toy_method,
    toy_stage,
    toy_statistics,
)
from waits import DEVICE, CountedWaits, OnHost

STEPS = 4
QUIET = {"epochs": 1, "batch_size": 12, "log_every": 100, "checkpoint_every": 100, "precision": "float32"}


class Counted(ToyData):
    """Notes the count whenever a batch is asked for: all steps before it are then done."""

    def __init__(self, waits: CountedWaits) -> None:
        super().__init__(batch_size=12)
        self.waits = waits
        self.counts: list[int] = []

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        for batch in super().batches(epoch=epoch, start=start):
            self.counts.append(self.waits.count)
            host = {name: getattr(batch, name).as_subclass(OnHost) for name in ("samples", "views", "tokens")}
            yield replace(batch, **host)


def counts(stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each step but the last, which is logged, waited."""
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: nullcontext())
    processes = Processes(cpu=True)
    processes.device = DEVICE
    waits = CountedWaits()
    data = stage.data if isinstance(stage.data, Counted) else Counted(waits)
    data.waits = waits
    with waits:
        train_stage(replace(stage, data=data), folder, processes=processes)
    assert len(data.counts) == STEPS
    return [after - before for before, after in zip(data.counts, data.counts[1:], strict=False)]


def stage_of(**changes: object) -> Stage:
    return toy_stage(toy_config(**{**QUIET, **changes}))


METHODS = {
    "all objectives, one teacher drawn": {"objectives": EVERY_OBJECTIVE["objectives"]},
    "all available": {"selection": {"kind": "available"}},
    "drawn by batch": {"selection": {"kind": "batch_draw"}},
    "dropping": {"selection": {"kind": "teacher_dropping"}},
    "fixed": {"weighting": {"kind": "fixed", "weights": {"alpha": 1, "beta": 2, "gamma": 0}}},
    "uncertainty": {"weighting": {"kind": "uncertainty"}},
    "loss_mlp": {"weighting": {"kind": "loss_mlp"}},
    "attention": {"weighting": {"kind": "attention", "keys": "pooled"}},
    "confidence": {"weighting": {"kind": "confidence"}},
    "micro-batches": {"micro_batch": 5, "objectives": EVERY_OBJECTIVE["objectives"]},
    "mixed": {
        "objectives": {"interactive_contrastive": {"as_published": True}},
        "projection": {"kind": "linear_autoencoder"},
    },
}


@pytest.mark.parametrize("changes", METHODS.values(), ids=METHODS.keys())
def test_no_step_waits(tmp_path, monkeypatch, changes) -> None:
    config = toy_config(**{**QUIET, **changes})
    method = toy_method(config) if config.projection.kind == "learned_head" else projected(config)
    stage = replace(stage_of(), method=method, config=config, source=ToyTeachers(gaps=True))
    assert counts(stage, tmp_path, monkeypatch) == [0, 0, 0]


def test_contrastive_steps_do_not_wait(tmp_path, monkeypatch) -> None:
    method = toy_method(ContrastiveConfig(method="contrastive"))
    stage = replace(stage_of(), method=method, source=None)
    assert counts(stage, tmp_path, monkeypatch) == [0, 0, 0]


@pytest.mark.parametrize("kind", ["phi_s", "joint_pca"])
def test_factors_of_a_projection_are_waited_for_once(tmp_path, monkeypatch, kind) -> None:
    config = toy_config(**QUIET, projection={"kind": kind})
    stage = replace(stage_of(), method=projected(config), config=config)
    assert counts(stage, tmp_path, monkeypatch) == [1, 0, 0]


def test_the_least_norm_of_two_teachers_is_not_waited_for(tmp_path, monkeypatch) -> None:
    """By its closed form; with three a step waits that finds weights anew, and no other."""
    weighting = {"kind": "min_norm", "smoothing": 0.5, "normalize": True, "max_weight": 0.7}
    for names, every, waiting in ((["alpha", "beta"], 1, []), (TEACHER_DIMS, 2, [0, 2])):
        changes = {"selection": {"kind": "available"}, "weighting": {**weighting, "every": every}}
        config = toy_config(**QUIET, **changes)
        stage = replace(stage_of(), method=toy_method(config, names=names), config=config)
        found = counts(stage, tmp_path / str(every), monkeypatch)
        assert [place for place, count in enumerate(found) if count] == waiting


def test_a_rule_that_waits_by_its_documentation_is_seen_to_wait(tmp_path, monkeypatch) -> None:
    stage = stage_of(weighting={"kind": "torchjd", "method": "upgrad"}, selection={"kind": "available"})
    assert min(counts(stage, tmp_path, monkeypatch)) > 0


class Captioned(Counted):
    """Batches of a real student's rasters and ids."""

    def __init__(self, student: DualEncoder, texts: tuple[str, ...]) -> None:
        super().__init__(CountedWaits())
        self.student, self.texts = student, texts

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        for batch in super().batches(epoch=epoch, start=start):
            spec = self.student.input
            rasters = torch.full((len(batch), spec.height, spec.width, 3), 9, dtype=torch.uint8)
            tokens = self.student.tokenize([self.texts[row] for row in batch.samples.tolist()])
            yield replace(batch, rasters=rasters, tokens=tokens.as_subclass(OnHost))


def test_a_real_student_of_stored_teachers_does_not_wait(tmp_path, monkeypatch) -> None:
    samples = toy_samples(tmp_path / "images", 48)
    teachers = {"clip": toy_teacher("clip", modalities=("xray", "ct")), "other": toy_teacher("other", seed=1)}
    store = extract(tmp_path / "store", samples, teachers, SMALL)
    student = build_student(StudentConfig(preset="tiny"), base=Path(), seed=0)
    spaces = {
        name: TeacherSpace.of(teacher.card, statistics=dict.fromkeys(("image", "text"), statistics))
        for name, teacher in teachers.items()
        for statistics in [toy_statistics(teacher.card.dims["image"])]
    }
    config = toy_config(**QUIET)
    method: Method = build_method(config, student_dim=student.embed_dim, teachers=spaces, seed=0)
    stage = Stage(
        student=student,
        method=method,
        data=Captioned(student, samples.texts or ()),
        source=StoredTeachers(store, samples, ["clip", "other"]),
        config=config,
    )
    assert counts(stage, tmp_path / "stage", monkeypatch) == [0, 0, 0]
