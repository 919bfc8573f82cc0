"""Two processes give what one gives. Run with gloo, as torchrun would start them."""

import os
from pathlib import Path

import pytest
import torch

from meddistill.errors import NonFiniteError
from meddistill.methods.config import EmbeddingConfig
from meddistill.training.loop import train_stage
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from toy_training import (
    EMBEDDING,
    EVERY_OBJECTIVE,
    ON_CPU,
    ToyStudent,
    ToyTeachers,
    gradients_of,
    toy_batch,
    toy_config,
    toy_method,
    toy_stage,
    toy_step,
)
from two_processes import run_two

pytestmark = pytest.mark.skipif(
    not ON_CPU and torch.cuda.device_count() < 2, reason="two processes need two GPUs, or the CPU"
)
BATCHES = [[3, 8, 1, 2, 9, 10, 7, 0], [20, 21, 22, 23, 24, 25, 26, 27], [5, 4, 11, 14, 13, 12, 6, 15]]


def three_steps(
    processes: Processes, *, micro_batch: int | None = None, content=EMBEDDING
) -> dict[str, object]:
    """Gradients of the first batch, and the weights after three updates, in float64."""
    method = toy_method(EmbeddingConfig.model_validate(content)).double()
    student = ToyStudent().double()
    gaps = content is EVERY_OBJECTIVE
    source = ToyTeachers(gaps=gaps)
    step = toy_step(student, method, processes=processes, micro_batch=micro_batch, source=source)
    optimizer = Optimizer(student=student, method=method, config=toy_config())
    first = {}
    for number, rows in enumerate(BATCHES):
        share = len(rows) // processes.count
        own = rows[processes.index * share :][:share]
        optimizer.clear()
        report = step(toy_batch(own, gaps=gaps), step=number)
        if number == 0:
            first = {"loss": report.loss.total.item(), "gradients": gradients_of(student, method)}
        norm = optimizer.gradient_norm()
        optimizer.update(rate=3e-3, gradient_norm=norm, finite=norm.isfinite())
    weights = {name: each.detach().cpu() for name, each in student.named_parameters()}
    heads = {name: each.detach().cpu() for name, each in method.named_parameters()}
    return {**first, "weights": weights, "heads": heads}


def spoilt_step(processes: Processes) -> str:
    """The embeddings of process 1 are no numbers; both must tell of it."""
    stage = toy_stage(toy_config(), processes=processes.count, process=processes.index)
    if processes.index == 1:
        with torch.no_grad():
            stage.student.image[0].weight[0, 0] = torch.nan
    try:
        train_stage(stage, Path(os.environ["TOY_FOLDER"]) / "spoilt", processes=processes)
    except NonFiniteError as error:
        return str(error)
    return "no error"


def _work(rank: int, folder: str) -> None:
    os.environ["TOY_FOLDER"] = folder
    # Where there is no GPU, a run says nothing of the CPU and must join the others all the same.
    processes = Processes(cpu=ON_CPU and torch.cuda.is_available())
    assert processes.count == 2
    found = {
        "plain": three_steps(processes),
        "micro": three_steps(processes, micro_batch=3),
        "all": three_steps(processes, content=EVERY_OBJECTIVE),
        "all, micro": three_steps(processes, content=EVERY_OBJECTIVE, micro_batch=3),
        "stage": _stage(processes, Path(folder) / "two"),
        "spoilt": spoilt_step(processes),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")


def _stage(processes: Processes, folder: Path) -> dict[str, torch.Tensor]:
    stage = toy_stage(toy_config(), processes=processes.count, process=processes.index)
    train_stage(stage, folder, processes=processes)
    return {name: each.cpu() for name, each in stage.student.state_dict().items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("processes")
    run_two(_work, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, object]]:
    processes = Processes(cpu=ON_CPU)
    some, every = three_steps(processes), three_steps(processes, content=EVERY_OBJECTIVE)
    return {"plain": some, "micro": some, "all": every, "all, micro": every}


every_kind = pytest.mark.parametrize("kind", ["plain", "micro", "all", "all, micro"])


@every_kind
def test_gradients_equal_those_of_one_process(two, alone, kind) -> None:
    one = alone[kind]
    for rank in range(2):
        found = two[rank][kind]
        assert found["loss"] == pytest.approx(one["loss"], rel=1e-9)
        torch.testing.assert_close(found["gradients"], one["gradients"], rtol=1e-9, atol=1e-12)


@every_kind
def test_weights_after_three_updates_equal_those_of_one_process(two, alone, kind) -> None:
    for part in ("weights", "heads"):
        torch.testing.assert_close(two[0][kind][part], alone[kind][part], rtol=0, atol=1e-9)


@every_kind
def test_processes_keep_the_same_weights_bit_for_bit(two, kind) -> None:
    for part in ("weights", "heads"):
        assert all(two[0][kind][part][name].equal(each) for name, each in two[1][kind][part].items())


def test_a_stage_of_two_processes_is_a_stage_of_one(two, tmp_path) -> None:
    expected = _stage(Processes(cpu=ON_CPU), tmp_path)
    for rank in range(2):
        torch.testing.assert_close(two[rank]["stage"], expected, rtol=0, atol=1e-5)


def test_all_processes_tell_of_what_one_of_them_met(two) -> None:
    assert two[0]["spoilt"] == two[1]["spoilt"]
    assert "embeddings of 6 samples" in two[0]["spoilt"]
