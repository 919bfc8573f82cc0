"""Balancing sees the global batch: neither micro-batches nor processes change what it draws or weighs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from meddistill.methods.config import EmbeddingConfig
from meddistill.training.processes import Processes
from toy_training import (
    EMBEDDING,
    ON_CPU,
    ToyStudent,
    ToyTeachers,
    gradients_of,
    toy_batch,
    toy_method,
    toy_step,
)
from two_processes import run_two

ROWS = list(range(3, 15))
GROUPS = 3
EXACT = {"rtol": 1e-9, "atol": 1e-12}
BY_GROUP = {"kind": "min_norm", "max_weight": 0.6, "normalize": True, "smoothing": 0.3, "by": "scanner"}
# The random rule and teacher dropping draw; log-variances learn; the doubts of confidence look at all rows.
BALANCED = {
    "draws": {
        "selection": {"kind": "teacher_dropping"},
        "weighting": {"kind": "torchjd", "method": "random"},
    },
    "gradients": {"selection": {"kind": "available"}, "weighting": {"kind": "torchjd", "method": "mgda"}},
    "shortest": {
        "selection": {"kind": "available"},
        "weighting": {"kind": "min_norm", "smoothing": 0.3, "every": 2},
    },
    "by group": {"selection": {"kind": "available"}, "weighting": BY_GROUP},
    "learns": {"selection": {"kind": "batch_draw"}, "weighting": {"kind": "uncertainty"}},
    "asks": {"selection": {"kind": "available"}, "weighting": {"kind": "confidence"}},
    "sees losses": {"selection": {"kind": "available"}, "weighting": {"kind": "loss_mlp"}},
    "attends": {"selection": {"kind": "available"}, "weighting": {"kind": "attention", "keys": "pooled"}},
}


def step(
    kind: str, processes: Processes | None = None, *, micro_batch: int | None = None, number: int = 3
) -> dict[str, object]:
    """Loss, weights and gradients of one step in float64, for this process's share of the rows."""
    processes = processes or Processes(cpu=ON_CPU)
    config = EmbeddingConfig.model_validate({**EMBEDDING, **BALANCED[kind]})
    method = toy_method(config, groups=GROUPS).double()
    student = ToyStudent().double()
    share = len(ROWS) // processes.count
    batch = toy_batch(ROWS[processes.index * share :][:share])
    batch = replace(batch, groups=batch.samples % GROUPS)
    report = toy_step(student, method, processes=processes, micro_batch=micro_batch)(batch, step=number)
    return {
        "loss": report.loss.total.cpu(),
        "weights": report.loss.teacher_weights.cpu(),
        "reported": [(each.totals.cpu(), each.counts.cpu()) for each in report.loss.reported],
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


def test_groups_of_rows_are_weighed_apart(whole) -> None:
    """Otherwise the tests above would say nothing of them."""
    config = EmbeddingConfig.model_validate({**EMBEDDING, **BALANCED["by group"]})
    batch = toy_batch(ROWS)
    report = toy_step(ToyStudent().double(), toy_method(config).double())(batch, step=3)
    assert not torch.allclose(report.loss.teacher_weights.cpu(), whole["by group"]["weights"])


def test_a_missing_teacher_leaves_the_others_the_weights_of_a_recipe_without_it() -> None:
    found = {}
    for names, absent in ((("alpha", "gamma"), ()), (("alpha", "beta", "gamma"), ("beta",))):
        weighting = {"kind": "min_norm", "max_weight": 0.8}
        objectives = {"feature_mse": 50.0, "similarity_kl": 1.0}
        config = EmbeddingConfig(method="embedding", objectives=objectives, weighting=weighting)
        method, student = toy_method(config, names=names).double(), ToyStudent().double()
        report = toy_step(student, method, source=ToyTeachers(names, absent=absent))(toy_batch(ROWS), step=0)
        weights = dict(zip(names, report.loss.teacher_weights.tolist(), strict=True))
        assert weights.pop("beta", 0) == 0
        found[names] = weights, gradients_of(student)
    torch.testing.assert_close(*found.values(), rtol=1e-7, atol=1e-9)
