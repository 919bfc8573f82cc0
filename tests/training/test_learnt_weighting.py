"""A weighting that learns is part of the stage: trained, logged, saved and taken up again."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from meddistill.training.loop import Stage, train_stage
from meddistill.training.processes import Processes
from toy_training import ON_CPU, TEACHER_DIMS, ToyData, toy_config, toy_stage


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
