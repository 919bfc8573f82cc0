"""Layers that an objective learns are trained, and go into checkpoints."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from meddistill.methods.config import EmbeddingConfig
from meddistill.training.loop import train_stage
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from toy_training import (
    EVERY_OBJECTIVE,
    ON_CPU,
    TEACHER_DIMS,
    ToyData,
    ToyStudent,
    toy_config,
    toy_method,
    toy_stage,
)

LAYERS = ("image.weight", "image.bias", "text.weight", "text.bias", "log_scale")
FUSION = {f"objectives.augmented_feature_fusion.{name}.{layer}" for name in TEACHER_DIMS for layer in LAYERS}


def fusing(names=TEACHER_DIMS):
    objectives = {"augmented_feature_fusion": 1.0}
    config = EmbeddingConfig.model_validate({"method": "embedding", "objectives": objectives})
    return toy_method(config, names=names)


def test_they_are_in_the_optimizer() -> None:
    method = fusing()
    named = dict(method.named_parameters())
    assert named.keys() >= FUSION
    optimizer = Optimizer(student=ToyStudent(), method=method, config=toy_config())
    trained = {id(each) for each in optimizer.parameters}
    assert all(id(named[name]) in trained for name in FUSION)


def test_they_do_not_depend_on_the_other_teachers() -> None:
    few, many = fusing(["gamma"]).state_dict(), fusing().state_dict()
    for name in (name for name in FUSION if ".gamma." in name):
        assert few[name].equal(many[name])


def test_they_stay_in_their_range_after_every_update(tmp_path) -> None:
    stage = toy_stage(toy_config(objectives={"augmented_feature_fusion": 1.0}, learning_rate=3.0))
    train_stage(stage, tmp_path, processes=Processes(cpu=ON_CPU))
    scales = [value.item() for name, value in stage.method.named_parameters() if name.endswith("log_scale")]
    assert len(scales) == len(TEACHER_DIMS)
    assert all(0 <= scale <= math.log(100) + 1e-6 for scale in scales)
    # A learning rate of 3 takes them beyond it.
    assert any(scale in (0.0, pytest.approx(math.log(100))) for scale in scales)


def test_a_stage_with_them_goes_on_where_it_was(tmp_path) -> None:
    """Fresh layers, or fresh moments, would end elsewhere."""

    class Interrupted(Exception):
        pass

    class Interrupting(ToyData):
        def batches(self, *, epoch: int, start: int) -> Iterator:
            for number, batch in enumerate(super().batches(epoch=epoch, start=start), start):
                if (epoch, number) == (1, 1):
                    raise Interrupted
                yield batch

    config = toy_config(objectives=EVERY_OBJECTIVE["objectives"])
    processes = Processes(cpu=ON_CPU)
    train_stage(toy_stage(config), tmp_path / "whole", processes=processes)
    broken = replace(toy_stage(config), data=Interrupting(batch_size=12))
    with pytest.raises(Interrupted):
        train_stage(broken, tmp_path / "broken", processes=processes)
    kept = load_file(tmp_path / "broken" / "checkpoints" / "step-000000003" / "method.safetensors")
    assert kept.keys() >= FUSION
    fresh = toy_method(config).state_dict()
    assert not kept["objectives.augmented_feature_fusion.alpha.image.weight"].equal(
        fresh["objectives.augmented_feature_fusion.alpha.image.weight"].cpu()
    )
    train_stage(toy_stage(config), tmp_path / "broken", processes=processes)
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("whole", "broken"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]) or not ON_CPU, name
