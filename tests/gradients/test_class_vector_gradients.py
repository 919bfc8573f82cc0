"""Class vectors of batch, bank and queue: neither micro-batches nor processes nor a pause change them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from meddistill.errors import ConfigError
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.training.loop import Stage, train_stage
from meddistill.training.processes import Processes
from toy_projections import projected, toy_maps
from toy_training import (
    ON_CPU,
    STUDENT_DIM,
    TEACHER_DIMS,
    ToyData,
    ToyStudent,
    ToyTeachers,
    gradients_of,
    toy_batch,
    toy_config,
    toy_method,
    toy_spaces,
    toy_stage,
    toy_step,
)
from two_processes import run_two

NEGATIVES = {
    "batch": {"temperature": {"alpha": 1.0, "beta": 2.0, "gamma": 0.5}},
    "bank": {"negatives": "bank", "bank": "classes", "temperature": 2.0},
    "queue": {"negatives": "queue", "queue_size": 5},
}
BATCHES = [[3, 8, 1, 2, 9, 10, 7, 0], [20, 21, 22, 23, 24, 25, 26, 27], [5, 4, 11, 14, 13, 12, 6, 15]]
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def objectives(kind: str) -> dict[str, object]:
    return {"contrastive": 1.0, "class_vector_kl": {"weight": 3.0, **NEGATIVES[kind]}}


def third_step(
    kind: str, processes: Processes | None = None, *, micro_batch: int | None = None
) -> dict[str, object]:
    """Loss and gradients of a third batch in float64, and what stands in the queues before it."""
    processes = processes or Processes(cpu=ON_CPU)
    settings = EmbeddingConfig.model_validate({"method": "embedding", "objectives": objectives(kind)})
    method, student = toy_method(settings).double(), ToyStudent().double()
    source = ToyTeachers(gaps=True)
    step = toy_step(student, method, processes=processes, micro_batch=micro_batch, source=source)
    for number, rows in enumerate(BATCHES):
        share = len(rows) // processes.count
        student.zero_grad()
        method.zero_grad()
        before = {name: each.clone().cpu() for name, each in method.named_buffers() if "queue" in name}
        report = step(toy_batch(rows[processes.index * share :][:share], gaps=True), step=number)
        method.after_update()
    return {"loss": report.loss.total.cpu(), "queues": before, "gradients": gradients_of(student, method)}


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, object]]:
    return {kind: third_step(kind) for kind in NEGATIVES}


def test_they_train_the_image_tower_and_the_heads(whole) -> None:
    settings = EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": {"class_vector_kl": NEGATIVES["bank"]}}
    )
    method, student = toy_method(settings), ToyStudent()
    toy_step(student, method)(toy_batch(BATCHES[0]), step=0)
    named = {name for name, each in gradients_of(student, method).items() if each.abs().sum() > 0}
    assert {
        "0.image.0.weight",
        "0.log_scale",
        *(f"1.spaces.heads.{name}.weight" for name in TEACHER_DIMS),
    } <= {name.replace("linear.", "") for name in named}
    assert not any(name.startswith(("0.text", "0.words")) for name in named)
    filled = [each for name, each in whole["queue"]["queues"].items() if name.endswith("filled")]
    assert len(filled) == len(TEACHER_DIMS)
    assert 0 < sum(int(each.sum()) for each in filled) < 5 * len(TEACHER_DIMS)
    assert any(each.all() for each in filled)  # one is full, one is not


@pytest.mark.parametrize("kind", NEGATIVES)
@pytest.mark.parametrize("micro_batch", [5, 1])
def test_micro_batches_equal_one_batch(whole, kind, micro_batch) -> None:
    torch.testing.assert_close(third_step(kind, micro_batch=micro_batch), whole[kind], **EXACT)


def _work(rank: int, folder: str) -> None:
    processes = Processes(cpu=ON_CPU and torch.cuda.is_available())
    found = {kind: third_step(kind, processes, micro_batch=3) for kind in NEGATIVES}
    torch.save(found, Path(folder) / f"{rank}.pt")


@pytest.mark.skipif(
    not ON_CPU and torch.cuda.device_count() < 2, reason="two processes need two GPUs, or the CPU"
)
def test_two_processes_equal_one(whole, tmp_path) -> None:
    run_two(_work, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, whole, **EXACT)


class PowerCut(Exception):
    """The power went."""


class Dying(ToyData):
    """Breaks after five batches; the checkpoint is of the third."""

    def batches(self, *, epoch: int, start: int):
        for number, batch in enumerate(super().batches(epoch=epoch, start=start), start):
            if (epoch, number) == (1, 1):
                raise PowerCut
            yield batch


def stage(kind: str) -> Stage:
    return toy_stage(toy_config(objectives=objectives(kind)), dropout=0.2)


@pytest.mark.parametrize("kind", ["bank", "queue"])
def test_an_interrupted_stage_ends_as_an_uninterrupted_one(kind, tmp_path) -> None:
    processes = Processes(cpu=ON_CPU)
    first, resumed = stage(kind), stage(kind)
    train_stage(first, tmp_path / "whole", processes=processes)
    with pytest.raises(PowerCut):
        train_stage(replace(stage(kind), data=Dying(batch_size=12)), tmp_path / "broken", processes=processes)
    (checkpoint,) = (tmp_path / "broken" / "checkpoints").glob("*/method.safetensors")
    buffers = {name for name in load_file(checkpoint) if "class_vector_kl" in name}
    parts = ("filled", "vectors") if kind == "queue" else ()
    assert buffers == {
        f"objectives.class_vector_kl.{name}.queue.{each}" for name in TEACHER_DIMS for each in parts
    }
    train_stage(resumed, tmp_path / "broken", processes=processes)
    if ON_CPU:
        names = [tmp_path / each / "student.safetensors" for each in ("whole", "broken")]
        assert names[0].read_bytes() == names[1].read_bytes()
        for name, each in first.method.state_dict().items():
            assert each.equal(resumed.method.state_dict()[name])


@pytest.mark.parametrize("kind", ["pca", "linear_autoencoder", "phi_s"])
def test_a_bank_goes_through_the_map_of_the_teachers_images(kind) -> None:
    config = EmbeddingConfig.model_validate(
        {
            "method": "embedding",
            "objectives": {"class_vector_kl": NEGATIVES["bank"]},
            "projection": {"kind": kind},
        }
    )
    maps = toy_maps(dim=None if kind == "phi_s" else STUDENT_DIM, unit_inputs=kind == "pca")
    method = projected(config, maps)
    for name, space in toy_spaces().items():
        rows = space.banks["classes"]
        inputs = functional.normalize(rows) if kind == "pca" else rows
        mapped = inputs @ torch.from_numpy(maps[name].weight).T + torch.from_numpy(maps[name].bias)
        bank = method.objectives["class_vector_kl"][name].bank
        torch.testing.assert_close(bank, functional.normalize(mapped))
    queue = config.model_copy(
        update={"objectives": config.objectives.model_validate({"class_vector_kl": NEGATIVES["queue"]})}
    )
    for name, weight in maps.items():
        vectors = projected(queue, maps).objectives["class_vector_kl"][name].queue.vectors
        assert vectors.shape == (5, len(weight.weight))


def test_a_method_without_its_bank_is_refused() -> None:
    config = EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": {"class_vector_kl": {"negatives": "bank", "bank": "others"}}}
    )
    with pytest.raises(ConfigError, match="teacher `beta` must come with its features of the bank others"):
        toy_method(config)
    classes = config.model_copy(
        update={"objectives": config.objectives.model_validate({"class_vector_kl": NEGATIVES["bank"]})}
    )
    narrow = {
        name: replace(space, banks={"classes": space.banks["classes"][:, 1:]})
        for name, space in toy_spaces().items()
    }
    with pytest.raises(ConfigError, match=r"bank classes, each of its \d+ numbers; got \[\d+, \d+\]"):
        build_method(classes, student_dim=STUDENT_DIM, teachers=narrow, seed=0)
    few = {"method": "embedding", "objectives": {"class_vector_kl": {"temperature": {"alpha": 1.0}}}}
    with pytest.raises(
        ConfigError, match=r"temperature` must have a value for every teacher; got none for beta"
    ):
        toy_method(EmbeddingConfig.model_validate(few))
