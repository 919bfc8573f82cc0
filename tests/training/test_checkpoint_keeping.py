"""What stands beside a checkpoint's weights, and which checkpoints are kept."""

import json
from dataclasses import replace
from pathlib import Path

from meddistill.training.checkpoint import MANIFEST, Checkpoints, Progressed
from meddistill.training.loop import DONE, train_stage
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from toy_training import ON_CPU, ToyStudent, toy_config, toy_method, toy_stage

TERMS = {"alpha": {"name": "CC-BY-NC-4.0", "commercial": False}}


def _checkpoints(folder: Path) -> Checkpoints:
    student, method = ToyStudent(), toy_method()
    optimizer = Optimizer(student=student, method=method, config=toy_config())
    return Checkpoints(
        folder, identity={}, student=student, method=method, optimizer=optimizer, licences=TERMS
    )


def test_the_terms_of_every_component_stand_beside_the_weights(tmp_path: Path) -> None:
    written = _checkpoints(tmp_path / "stage").save(Progressed(step=3))
    assert json.loads((written / MANIFEST).read_text())["licences"] == TERMS
    stage = replace(toy_stage(toy_config(epochs=1)), licences=TERMS)
    train_stage(stage, tmp_path / "whole", processes=Processes(cpu=ON_CPU))
    assert json.loads((tmp_path / "whole" / DONE).read_text())["licences"] == TERMS


def test_what_was_just_written_outlives_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path)
    for step in (30, 40):
        damaged = checkpoints.save(Progressed(step=step))
        (damaged / MANIFEST).write_text("{")
    written = checkpoints.save(Progressed(step=10))
    assert written.is_dir()
    assert checkpoints.newest(lambda _: None) == written
