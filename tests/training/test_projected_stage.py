"""A stage with fixed maps and rescaled weights: broken off, in parts, in several processes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from meddistill.training.loop import Stage, train_stage
from meddistill.training.processes import Processes
from toy_projections import projected
from toy_training import ON_CPU, ToyData, ToyStudent, toy_batch, toy_config, toy_stage, toy_step
from two_processes import run_two

BATCH = [3, 8, 1, 2, 9, 10, 7, 0]


def options(kind: str = "pca"):
    return toy_config(
        projection={"kind": kind},
        objectives={"contrastive": 1.0, "feature_mse": 50.0, "cosine_smooth_l1": 1.0},
    )


def stage(kind: str) -> Stage:
    config = options(kind)
    return replace(toy_stage(dropout=0.2), config=config, method=projected(config))


class PowerCut(Exception):
    """The power went."""


class Dying(ToyData):
    """Breaks after five batches."""

    def batches(self, *, epoch: int, start: int):
        for number, batch in enumerate(super().batches(epoch=epoch, start=start), start):
            if (epoch, number) == (1, 1):
                raise PowerCut
            yield batch


@pytest.mark.parametrize("kind", ["linear_autoencoder", "phi_s"])
def test_an_interrupted_stage_keeps_its_factors(kind, tmp_path) -> None:
    """They belong to the first batch; the one after the checkpoint would give others."""
    train_stage(stage(kind), tmp_path / "whole", processes=Processes(cpu=ON_CPU))
    broken = stage(kind)
    with pytest.raises(PowerCut):
        train_stage(
            replace(broken, data=Dying(batch_size=12)), tmp_path / "broken", processes=Processes(cpu=ON_CPU)
        )
    resumed = stage(kind)
    train_stage(resumed, tmp_path / "broken", processes=Processes(cpu=ON_CPU))
    assert resumed.method.rescale.factors.equal(broken.method.rescale.factors)
    if ON_CPU:
        names = [tmp_path / each / "student.safetensors" for each in ("whole", "broken")]
        assert names[0].read_bytes() == names[1].read_bytes()


def factors(processes: Processes, *, micro_batch: int | None = None) -> torch.Tensor:
    method = projected(options()).double()
    step = toy_step(ToyStudent().double(), method, processes=processes, micro_batch=micro_batch)
    share = len(BATCH) // processes.count
    step(toy_batch(BATCH[processes.index * share :][:share]), step=0)
    return method.rescale.factors.cpu()


def test_micro_batches_have_the_factors_of_the_whole_batch() -> None:
    processes = Processes(cpu=ON_CPU)
    torch.testing.assert_close(factors(processes, micro_batch=3), factors(processes), rtol=1e-9, atol=0)


def _work(rank: int, folder: str) -> None:
    torch.save(factors(Processes(cpu=ON_CPU)), Path(folder) / f"{rank}.pt")


@pytest.mark.skipif(not ON_CPU, reason="two processes on one GPU")
def test_processes_agree_on_the_factors_of_the_global_batch(tmp_path) -> None:
    run_two(_work, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first.equal(second)
    torch.testing.assert_close(first, factors(Processes(cpu=ON_CPU)), rtol=1e-9, atol=0)
