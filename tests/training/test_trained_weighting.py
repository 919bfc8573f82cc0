"""A weighting that learns or remembers is part of the stage: trained, logged, saved and taken up again."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from meddistill.errors import NonFiniteError
from meddistill.training.loop import Stage, train_stage
from meddistill.training.processes import Processes
from toy_training import ON_CPU, TEACHER_DIMS, ToyData, ToyTeachers, toy_config, toy_stage


class _PowerCut(Exception):
    pass


class _CutData(ToyData):
    """Breaks after six of eight batches."""

    left = 6

    def batches(self, *, epoch: int, start: int) -> Iterator:
        for batch in super().batches(epoch=epoch, start=start):
            if self.left == 0:
                raise _PowerCut
            self.left -= 1
            yield batch


def stage() -> Stage:
    return toy_stage(toy_config(selection={"kind": "teacher_dropping"}, weighting={"kind": "uncertainty"}))


def run(what: Stage, folder: Path) -> list[dict]:
    train_stage(what, folder, processes=Processes(cpu=ON_CPU))
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_log_variances_are_trained_saved_and_taken_up_again(tmp_path) -> None:
    whole, broken, resumed = stage(), stage(), stage()
    lines = run(whole, tmp_path / "whole")
    cut = replace(broken, data=_CutData(batch_size=broken.config.batch_size))
    with pytest.raises(_PowerCut):
        run(cut, tmp_path / "cut")
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    saved = load_file(newest / "method.safetensors")["weighting.scaled"]
    assert saved.abs().min() > 0
    run(resumed, tmp_path / "cut")
    final = whole.method.weighting.scaled.detach().cpu()
    assert not final.equal(saved)
    # The losses are far above 1, so every log-variance is on its way up.
    assert (final > 0).all()
    if ON_CPU:
        assert resumed.method.weighting.scaled.detach().equal(final)
        bytes_of = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "cut")]
        assert bytes_of[0] == bytes_of[1]
    assert "loss/weighting" in lines[-1]
    shares = [lines[-1][f"teacher/{name}/weight"] for name in TEACHER_DIMS]
    assert sum(shares) == pytest.approx(1)


def test_a_rule_with_weights_below_zero_is_logged(tmp_path) -> None:
    """pbi with a large theta pushes the teacher with the lower loss away."""
    weighting = {"kind": "torchjd", "method": "pbi", "options": {"theta": 20.0}}
    lines = run(toy_stage(toy_config(selection={"kind": "available"}, weighting=weighting)), tmp_path)
    weights = torch.tensor([[line[f"teacher/{name}/weight"] for name in TEACHER_DIMS] for line in lines])
    assert weights.min() < 0
    assert all(line[f"teacher/{name}/loss"] > 0 for line in lines for name in TEACHER_DIMS)


def test_weights_that_are_kept_between_steps_go_on_where_they_were(tmp_path) -> None:
    """The checkpoint is of step 6; with `every: 4` weights are kept there, and with smoothing remembered."""
    weighting = {"kind": "min_norm", "smoothing": 0.7, "every": 4, "max_weight": 0.6}
    config = toy_config(selection={"kind": "available"}, weighting=weighting)
    whole, broken, resumed = (toy_stage(config) for _ in range(3))
    lines = run(whole, tmp_path / "whole")
    with pytest.raises(_PowerCut):
        run(replace(broken, data=_CutData(batch_size=broken.config.batch_size)), tmp_path / "cut")
    again = run(resumed, tmp_path / "cut")
    rule, other = whole.method.weighting, resumed.method.weighting
    assert rule.steps == other.steps == 8
    assert (rule.relative - 1).abs().max() > 0.01
    if ON_CPU:
        assert other.relative.equal(rule.relative)
        bytes_of = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "cut")]
        assert bytes_of[0] == bytes_of[1]
        kept = [[line[f"teacher/{name}/weight"] for name in TEACHER_DIMS] for line in lines]
        assert kept == [[line[f"teacher/{name}/weight"] for name in TEACHER_DIMS] for line in again]
    # A line covers two steps, and gradients are looked at in the first and the fifth.
    looked = ["gradients/conflict" in line for line in lines]
    assert looked == [True, False, True, False]
    assert all(0 <= line["gradients/conflict"] <= 1 for line in lines[::2])
    assert all(-1 <= line["gradients/cosine/alpha/gamma"] <= 1 for line in lines[::2])
    assert all(line[f"teacher/{name}/gradient_norm"] > 0 for line in lines[::2] for name in TEACHER_DIMS)


class _Spoilt(ToyTeachers):
    """What beta gives in the second step is no number."""

    def outputs(self, batch) -> dict:
        found = super().outputs(batch)
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 2:
            found["beta"].image.mul_(torch.nan)
        return found


@pytest.mark.parametrize("weighting", [{"kind": "min_norm"}, {"kind": "torchjd", "method": "mgda"}], ids=str)
def test_a_teacher_whose_gradient_is_not_finite_is_named(tmp_path, weighting) -> None:
    stage = toy_stage(toy_config(selection={"kind": "available"}, weighting=weighting))
    with pytest.raises(NonFiniteError, match=r"of teacher beta\. Samples: sample-"):
        run(replace(stage, source=_Spoilt()), tmp_path)
    assert not (tmp_path / "done.json").exists()


def test_a_gradient_alone_that_is_not_finite_names_its_teacher(tmp_path) -> None:
    """The loss is finite, and with it every number that stands in the log without gradients."""
    stage = toy_stage(toy_config(selection={"kind": "available"}, weighting={"kind": "min_norm"}))
    stage.method.heads["gamma"].register_full_backward_hook(
        lambda _, given, __: tuple(None if each is None else each * torch.inf for each in given)
    )
    with pytest.raises(NonFiniteError, match=r"all embeddings are finite\), of teacher gamma\. Samples"):
        run(stage, tmp_path)
