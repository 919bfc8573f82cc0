"""A stage from its first step to its last, with interruptions."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.multiprocessing import ProcessExitedException

from meddistill.errors import CheckpointError, NonFiniteError
from meddistill.methods.config import ContrastiveConfig
from meddistill.report.curves import read_curves
from meddistill.report.stages import stages
from meddistill.training.loop import Stage, StageResult, train_stage
from meddistill.training.processes import Processes
from toy_training import ON_CPU, ToyData, toy_config, toy_method, toy_stage
from two_processes import run_two

STEPS = 8
EXACT = ON_CPU  # a GPU's kernels may add in another order


class Interrupted(Exception):
    """The power went."""


class InterruptedData(ToyData):
    """Gives so many batches, then breaks."""

    left = 0

    def batches(self, *, epoch: int, start: int) -> Iterator:
        for batch in super().batches(epoch=epoch, start=start):
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            yield batch


def run(stage: Stage, folder: Path, progress=None) -> StageResult:
    return train_stage(stage, folder, processes=Processes(cpu=ON_CPU), progress=progress)


def interrupted(stage: Stage, folder: Path, *, after: int) -> None:
    data = InterruptedData(batch_size=stage.config.batch_size)
    data.left = after
    with pytest.raises(Interrupted):
        run(replace(stage, data=data), folder)


def weights(folder: Path) -> bytes:
    return (folder / "student.safetensors").read_bytes()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(one: Path, other: Path) -> bool:
    return weights(one) == weights(other) if EXACT else True


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted stage, with dropout."""
    folder = tmp_path_factory.mktemp("stage") / "distill"
    run(toy_stage(dropout=0.2), folder)
    return folder


def test_a_stage_leaves_its_student_its_log_and_a_mark_that_it_is_done(whole) -> None:
    names = sorted(each.name for each in whole.iterdir())
    assert names == ["done.json", "log.jsonl", "student.safetensors", "tensorboard"]
    log = lines(whole)
    assert [line["step"] for line in log] == [2, 4, 6, 8]
    assert log[1]["epoch"] == 1.0
    for name in ("loss", "loss/feature_mse", "gradient_norm", "logit_scale", "images_per_second"):
        assert log[-1][name] > 0, name
    assert {"teacher/alpha/loss", "teacher/alpha/weight", "teacher/alpha/agreement"} <= log[-1].keys()
    assert sum(log[0][f"teacher/{name}/weight"] for name in ("alpha", "beta", "gamma")) == pytest.approx(1)


def test_tensorboard_shows_what_the_lines_say(whole) -> None:
    events = EventAccumulator(str(whole / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(line["step"], pytest.approx(line["loss"], rel=1e-5)) for line in lines(whole)]


def test_without_a_head_that_is_trained_no_agreement_is_logged_and_none_is_drawn(tmp_path) -> None:
    run(toy_stage(toy_config(objectives={"similarity_kl": 1.0}, epochs=1)), tmp_path / "own")
    for line in lines(tmp_path / "own"):
        assert {"teacher/alpha/loss", "teacher/alpha/weight"} <= line.keys()
        assert not [name for name in line if name.endswith("/agreement")]
    events = EventAccumulator(str(tmp_path / "own" / "tensorboard"))
    events.Reload()
    assert not [tag for tag in events.Tags()["scalars"] if tag.endswith("/agreement")]
    (drawn,) = stages([read_curves(tmp_path / "own" / "log.jsonl", stage="own")], [])
    titles = [plot.title for plot in drawn.plots]
    assert "Mean weight of each teacher" in titles
    assert "Cosine with each teacher" not in titles


def test_training_lowers_the_loss(tmp_path) -> None:
    run(toy_stage(toy_config(epochs=30, log_every=4, learning_rate=1e-2)), tmp_path / "long")
    log = lines(tmp_path / "long")
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert log[-1]["teacher/alpha/agreement"] > log[0]["teacher/alpha/agreement"] + 0.2


@pytest.mark.parametrize("after", [1, 3, 5, 7])
def test_an_interrupted_stage_ends_as_an_uninterrupted_one(whole, tmp_path, after) -> None:
    """Checkpoints stand at steps 3 and 6, both in the middle of an epoch of 4."""
    folder = tmp_path / "distill"
    interrupted(toy_stage(dropout=0.2), folder, after=after)
    assert not (folder / "done.json").exists()
    result = run(toy_stage(dropout=0.2), folder)
    assert result.steps == STEPS
    assert same(folder, whole)
    assert [line["step"] for line in lines(folder)] == [2, 4, 6, 8]


def test_interrupted_twice_and_with_a_damaged_checkpoint(whole, tmp_path) -> None:
    folder = tmp_path / "distill"
    interrupted(toy_stage(dropout=0.2), folder, after=4)
    interrupted(toy_stage(dropout=0.2), folder, after=4)
    newest = max((folder / "checkpoints").iterdir())
    assert newest.name == "step-000000006"
    (newest / "student.safetensors").write_bytes(b"damaged")
    run(toy_stage(dropout=0.2), folder)
    assert same(folder, whole)


class Fatal(ToyData):
    """Ends the process before the second batch of the second epoch."""

    def batches(self, *, epoch: int, start: int):
        for number, batch in enumerate(super().batches(epoch=epoch, start=start), start):
            if (epoch, number) == (1, 1):
                os._exit(7)
            yield batch


def _of_two(rank: int, folder: str, dies: bool) -> None:
    processes = Processes(cpu=ON_CPU)
    place = {"processes": processes.count, "process": processes.index}
    stage = toy_stage(dropout=0.2, **place)
    data = Fatal(batch_size=12, **place) if dies else stage.data
    train_stage(replace(stage, data=data), Path(folder) / "broken", processes=processes)
    train_stage(toy_stage(dropout=0.2, **place), Path(folder) / "whole", processes=processes)


@pytest.mark.skipif(not ON_CPU, reason="two processes on one GPU")
def test_two_processes_go_on_where_they_were(tmp_path) -> None:
    """Both die after step 5; the same call goes on after step 3."""
    with pytest.raises(ProcessExitedException):
        run_two(_of_two, str(tmp_path), True)
    assert not (tmp_path / "broken" / "done.json").exists()
    run_two(_of_two, str(tmp_path), False)
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert [line["step"] for line in lines(tmp_path / "broken")] == [2, 4, 6, 8]


def test_a_finished_stage_is_loaded_and_not_trained_again(whole) -> None:
    before = weights(whole), (whole / "log.jsonl").read_bytes()
    stage = toy_stage(dropout=0.2)
    broken = replace(stage, data=InterruptedData(batch_size=12))
    result = run(broken, whole)
    assert result.steps == STEPS
    assert result.wall_seconds > 0
    assert (weights(whole), (whole / "log.jsonl").read_bytes()) == before
    again = toy_stage()
    run(replace(again, data=InterruptedData(batch_size=12)), whole)
    for name, tensor in stage.student.state_dict().items():
        assert tensor.equal(again.student.state_dict()[name])


def test_a_damaged_student_of_a_finished_stage_is_refused(tmp_path) -> None:
    folder = tmp_path / "distill"
    run(toy_stage(), folder)
    (folder / "student.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="other bytes"):
        run(toy_stage(), folder)
    (folder / "done.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"done\.json"):
        run(toy_stage(), folder)


@pytest.mark.parametrize("done", [False, True])
def test_other_settings_or_data_are_refused(tmp_path, done) -> None:
    folder = tmp_path / "distill"
    if done:
        run(toy_stage(), folder)
    else:
        interrupted(toy_stage(), folder, after=4)
    with pytest.raises(CheckpointError, match=r"config\.learning_rate was 0\.003, is 0\.5"):
        run(toy_stage(toy_config(learning_rate=0.5)), folder)
    other = toy_stage()
    with pytest.raises(CheckpointError, match="data was toy 48 0, is toy 48 1"):
        run(replace(other, data=ToyData(batch_size=12, seed=1)), folder)
    with pytest.raises(CheckpointError, match="teacher weights is new"):
        run(replace(other, inputs={"teacher weights": "abc"}), folder)


def test_memory_and_logging_may_change_on_the_way(tmp_path) -> None:
    folder = tmp_path / "distill"
    interrupted(toy_stage(), folder, after=4)
    run(toy_stage(toy_config(micro_batch=5, log_every=3, checkpoint_every=100, workers=2)), folder)
    straight = tmp_path / "straight"
    run(toy_stage(), straight)
    torch.testing.assert_close(
        load_file(folder / "student.safetensors"), load_file(straight / "student.safetensors")
    )


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path) -> None:
    """Step 5 meets spoilt weights; the checkpoint of step 3 stays, and the weights are not touched."""
    folder = tmp_path / "distill"
    stage = toy_stage()

    class Spoiling(ToyData):
        def batches(self, *, epoch: int, start: int) -> Iterator:
            for number, batch in enumerate(super().batches(epoch=epoch, start=start), start):
                if (epoch, number) == (1, 1):
                    with torch.no_grad():
                        stage.student.log_scale.fill_(torch.inf)
                    self.before = [each.detach().clone() for each in stage.student.parameters()]
                    self.samples = batch.samples.tolist()
                yield batch

    data = Spoiling(batch_size=12)
    with pytest.raises(NonFiniteError, match="in step 5") as error:
        run(replace(stage, data=data), folder)
    assert all(f"sample-{row}" in str(error.value) for row in data.samples)
    assert all(a.equal(b) for a, b in zip(stage.student.parameters(), data.before, strict=True))
    assert [each.name for each in (folder / "checkpoints").iterdir()] == ["step-000000003"]
    assert not (folder / "student.safetensors").exists()


def test_a_line_that_was_cut_off_does_not_spoil_the_log(tmp_path) -> None:
    folder = tmp_path / "distill"
    interrupted(toy_stage(), folder, after=5)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    run(toy_stage(), folder)
    assert [line["step"] for line in lines(folder)] == [2, 4, 6, 8]


def test_whoever_calls_keeps_the_random_numbers(tmp_path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run(toy_stage(dropout=0.5), tmp_path / "distill")
    assert torch.rand(3).equal(expected)


def test_progress_counts_every_row_once(tmp_path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.total = self.done = 0
            self.said: list[str] = []

        @contextmanager
        def track(self, label: str, total: int, *, unit: str = "images", done: int = 0) -> Iterator:  # noqa: ARG002
            self.total, self.done = total, done

            def advance(units: int) -> None:
                self.done += units

            yield advance

        def say(self, message: str) -> None:
            self.said.append(message)

    folder = tmp_path / "distill"
    interrupted(toy_stage(), folder, after=5)
    progress = Counting()
    run(toy_stage(), folder, progress)
    assert progress.done == progress.total == 96
    assert progress.said == ["Going on after step 3 of 8."]


def test_a_stage_without_teachers(tmp_path) -> None:
    stage = toy_stage()
    method = toy_method(ContrastiveConfig(method="contrastive"))
    result = run(replace(stage, method=method, source=None), tmp_path / "pretrain")
    assert result.steps == STEPS
    assert not [name for name in lines(tmp_path / "pretrain")[-1] if name.startswith("teacher/")]
    assert not stage.student.training
