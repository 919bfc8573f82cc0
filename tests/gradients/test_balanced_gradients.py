"""Balancing sees the global batch: neither micro-batches nor processes change what it draws or weighs."""

from pathlib import Path

import pytest
import torch

from meddistill.methods.config import EmbeddingConfig
from meddistill.training.processes import Processes
from toy_training import EMBEDDING, ON_CPU, ToyStudent, gradients_of, toy_batch, toy_method, toy_step
from two_processes import run_two

ROWS = list(range(3, 15))
EXACT = {"rtol": 1e-9, "atol": 1e-12}
# The random rule and teacher dropping draw; log-variances learn; the doubts of confidence look at all rows.
BALANCED = {
    "draws": {
        "selection": {"kind": "teacher_dropping"},
        "weighting": {"kind": "torchjd", "method": "random"},
    },
    "gradients": {"selection": {"kind": "available"}, "weighting": {"kind": "torchjd", "method": "mgda"}},
    "learns": {"selection": {"kind": "batch_draw"}, "weighting": {"kind": "uncertainty"}},
    "asks": {"selection": {"kind": "available"}, "weighting": {"kind": "confidence"}},
}


def step(
    kind: str, processes: Processes | None = None, *, micro_batch: int | None = None, number: int = 3
) -> dict[str, object]:
    """Loss, weights and gradients of one step in float64, for this process's share of the rows."""
    processes = processes or Processes(cpu=ON_CPU)
    method = toy_method(EmbeddingConfig.model_validate({**EMBEDDING, **BALANCED[kind]})).double()
    student = ToyStudent().double()
    share = len(ROWS) // processes.count
    batch = toy_batch(ROWS[processes.index * share :][:share])
    report = toy_step(student, method, processes=processes, micro_batch=micro_batch)(batch, step=number)
    return {
        "loss": report.loss.total.cpu(),
        "weights": report.loss.teacher_weights.cpu(),
        "gradients": gradients_of(student, method),
    }


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, object]]:
    return {kind: step(kind) for kind in BALANCED}


@pytest.mark.parametrize("kind", BALANCED)
@pytest.mark.parametrize("micro_batch", [5, 1])
def test_micro_batches_equal_one_batch(whole, kind, micro_batch) -> None:
    torch.testing.assert_close(step(kind, micro_batch=micro_batch), whole[kind], **EXACT)


def test_what_is_balanced_is_not_uniform(whole) -> None:
    """Otherwise the tests here would say nothing."""
    for found in whole.values():
        assert found["weights"].abs().sum().item() == pytest.approx(1)
        assert (found["weights"] - 1 / 3).abs().max() > 0.02
    assert whole["learns"]["gradients"]["1.weighting.scaled"].abs().sum() > 0
    assert not step("draws", number=4)["weights"].equal(whole["draws"]["weights"])


def _work(rank: int, folder: str) -> None:
    processes = Processes(cpu=ON_CPU and torch.cuda.is_available())
    # What was drawn before must not matter, and differs from process to process.
    torch.manual_seed(rank)
    found = {kind: step(kind, processes, micro_batch=4 if kind == "draws" else None) for kind in BALANCED}
    torch.save(found, Path(folder) / f"{rank}.pt")


@pytest.mark.skipif(
    not ON_CPU and torch.cuda.device_count() < 2, reason="two processes need two GPUs, or the CPU"
)
def test_two_processes_equal_one(whole, tmp_path) -> None:
    run_two(_work, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, whole, **EXACT)
