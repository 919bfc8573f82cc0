"""A fusion network in the training loop: micro-batches, processes, interruptions, the best epoch."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from meddistill.training.gradients import GradientStep, StepSettings
from meddistill.training.loop import Stage, train_stage
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from meddistill.training.validation import Validation
from toy_fusion import fusion_config, fusion_method, fusion_stage, fusion_trainee
from toy_training import ON_CPU, ToyTeachers, gradients_of, toy_batch, toy_config
from two_processes import run_two

EXACT = {"rtol": 1e-9, "atol": 1e-11}
ROWS = list(range(12))
KINDS = [("gated_mlp", "within"), ("cross_attention", "within"), ("cross_attention", "across")]


class DoubleTeachers(ToyTeachers):
    """In float64, so that sums in another order show only in the last digits."""

    def outputs(self, batch):
        return {
            name: replace(each, image=each.image.double(), text=each.text.double())
            for name, each in super().outputs(batch).items()
        }


def step_of(processes: Processes, *, kind: tuple[str, str], micro_batch: int | None = None):
    config = fusion_config(network=kind[0], inputs=kind[1])
    source = DoubleTeachers(gaps=True)
    trainee = fusion_trainee(config, source=source).double().to(processes.device)
    method = fusion_method(config).double().to(processes.device)
    settings = StepSettings(micro_batch=micro_batch, precision="float32", seed=9)
    step = GradientStep(student=trainee, method=method, source=source, processes=processes, settings=settings)
    return step, trainee, method


def gradients(processes: Processes, *, kind: tuple[str, str], micro_batch: int | None = None):
    step, trainee, method = step_of(processes, kind=kind, micro_batch=micro_batch)
    share = len(ROWS) // processes.count
    step(toy_batch(ROWS[processes.index * share :][:share], gaps=True), step=3)
    return gradients_of(trainee, method)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_give_the_gradient_of_the_batch(kind: tuple[str, str]) -> None:
    one = gradients(Processes(cpu=ON_CPU), kind=kind)
    three = gradients(Processes(cpu=ON_CPU), kind=kind, micro_batch=5)
    assert one.keys() == three.keys()
    assert any("network" in name for name in one)
    for name, expected in one.items():
        torch.testing.assert_close(three[name], expected, **EXACT)


def _of_two(rank: int, folder: str) -> None:
    found = {kind: gradients(Processes(cpu=ON_CPU), kind=kind) for kind in KINDS}
    torch.save(found, Path(folder) / f"{rank}.pt")


@pytest.mark.skipif(not ON_CPU, reason="two processes on the CPU")
def test_two_processes_give_the_gradient_of_one(tmp_path: Path) -> None:
    run_two(_of_two, os.fspath(tmp_path))
    for kind in KINDS:
        one = gradients(Processes(cpu=ON_CPU), kind=kind)
        for rank in range(2):
            two = torch.load(tmp_path / f"{rank}.pt")[kind]
            for name, expected in one.items():
                torch.testing.assert_close(two[name], expected, **EXACT)


class Interrupted(Exception):
    """The power went."""


class Recorded:
    """A number by the epoch; it remembers what the trainee looked like and may break off."""

    def __init__(self, values: list[float], *, taken: int = 0, breaks_at: int | None = None) -> None:
        self.values = values
        self.taken = taken
        self.breaks_at = breaks_at
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, trainee) -> float:
        if self.taken == self.breaks_at:
            raise Interrupted
        assert not trainee.training
        self.seen.append({name: each.clone() for name, each in trainee.state_dict().items()})
        self.taken += 1
        return self.values[self.taken - 1]


def selected(values: list[float], *, patience: int | None = None, **options) -> tuple[Stage, Recorded]:
    measure = Recorded(values, **options)
    stage = fusion_stage(fusion_config(epochs=len(values), log_every=3))
    return replace(stage, validation=Validation(measure=measure, patience=patience)), measure


def run(stage: Stage, folder: Path):
    return train_stage(stage, folder, processes=Processes(cpu=ON_CPU))


def test_the_best_epochs_weights_are_kept_and_the_log_has_the_number(tmp_path: Path) -> None:
    stage, measure = selected([0.1, 0.5, 0.3, 0.5])
    result = run(stage, tmp_path)
    assert result.best == (0.5, 2)
    assert result.steps == 16
    kept = load_file(result.student)
    assert all(torch.equal(kept[name], each.cpu()) for name, each in measure.seen[1].items())
    log = (tmp_path / "log.jsonl").read_text()
    assert log.count('"validation"') == 4
    again, _ = selected([9.0, 9.0, 9.0, 9.0])
    assert run(again, tmp_path).best == (0.5, 2)


def test_patience_ends_the_stage(tmp_path: Path) -> None:
    stage, measure = selected([0.4, 0.3, float("nan"), 0.9], patience=2)
    result = run(stage, tmp_path)
    assert (result.best, result.steps, measure.taken) == ((0.4, 1), 12, 3)


def test_nan_at_first_is_worse_than_any_number(tmp_path: Path) -> None:
    stage, _ = selected([float("nan"), -2.0])
    assert run(stage, tmp_path).best == (-2.0, 2)


@pytest.mark.parametrize("patience", [None, 2])
def test_an_interrupted_stage_remembers_its_best_epoch(tmp_path: Path, patience: int | None) -> None:
    values = [0.4, 0.3, 0.35, 0.1]
    whole, _ = selected(values, patience=patience)
    expected = run(whole, tmp_path / "whole")
    broken, _ = selected(values, patience=patience, breaks_at=2)  # after the checkpoint of step 9
    with pytest.raises(Interrupted):
        run(broken, tmp_path / "broken")
    rest, _ = selected(values, patience=patience, taken=2)
    result = run(rest, tmp_path / "broken")
    assert (result.best, result.steps) == (expected.best, expected.steps)
    assert expected.best == (0.4, 1)
    if ON_CPU:
        assert result.student.read_bytes() == expected.student.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(kind: tuple[str, str]) -> None:
    step, trainee, method = step_of(Processes(cpu=ON_CPU), kind=kind)
    optimizer = Optimizer(student=trainee, method=method, config=toy_config())
    losses = []
    for number in range(30):
        optimizer.clear()
        losses.append(step(toy_batch(ROWS), step=number).loss.total.item())
        norm = optimizer.gradient_norm()
        optimizer.update(rate=1e-2, gradient_norm=norm, finite=norm.isfinite())
    assert losses[-1] < 0.8 * losses[0]
