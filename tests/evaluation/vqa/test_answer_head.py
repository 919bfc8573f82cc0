"""The head and its fit: padding is not seen, the protocols' losses, the schedule."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meddistill.errors import NonFiniteError
from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig
from meddistill.evaluation.tasks.vqa.head import AnswerHead
from meddistill.evaluation.tasks.vqa.inputs import Inputs, Seen
from meddistill.evaluation.tasks.vqa.training import (
    TrainingSplit,
    _Answerer,
    _WarmupSchedule,
    answer_probabilities,
)


def _config(**more: object) -> VqaClosedSetConfig:
    named = {"name": "a", "kind": "vqa_closed_set", "train": "train", "test": "test"}
    small = {"width": 16, "heads": 2, "layers": 1, "epochs": 3, "batch_size": 8, "dropout": 0.0}
    return VqaClosedSetConfig.model_validate({**named, **small, **more})


class Points(Inputs):
    """Rows of two numbers each for the image, one of two for the question; 40 rows."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        random = np.random.default_rng(0)
        self.values = torch.from_numpy(random.normal(size=(40, 3, 4))).float() * scale

    def forward(self, rows: np.ndarray) -> Seen:
        part = self.values[torch.from_numpy(rows)]
        everything = torch.ones(part.shape[:2], dtype=torch.bool)
        return Seen(part, everything, part[:, :1], everything[:, :1])


def _training_split(sets: list[list[bool]] | None = None, set_of: np.ndarray | None = None) -> TrainingSplit:
    targets = np.arange(40) % 3
    return TrainingSplit(
        learn=np.arange(20),
        choose=np.arange(20, 30),
        test=np.arange(30, 40),
        targets=targets,
        sets=np.array(sets or [[True] * 3]),
        set_of=np.zeros(40, dtype=np.int64) if set_of is None else set_of,
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_changes_nothing(pooling: str) -> None:
    torch.manual_seed(0)
    head = AnswerHead(5, 6, answers=3, config=_config(pooling=pooling)).eval()
    patches, tokens = torch.randn(2, 4, 5), torch.randn(2, 3, 6)
    seen, read = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool)
    plain = head(patches, seen, tokens, read)
    padded = head(
        torch.cat([patches, torch.full((2, 2, 5), 9.0)], dim=1),
        torch.cat([seen, torch.zeros(2, 2, dtype=torch.bool)], dim=1),
        torch.cat([tokens, torch.full((2, 1, 6), -9.0)], dim=1),
        torch.cat([read, torch.zeros(2, 1, dtype=torch.bool)], dim=1),
    )
    torch.testing.assert_close(plain, padded, atol=1e-5, rtol=1e-5)
    other = head(patches + torch.randn(5), seen, tokens, read)
    assert not torch.allclose(plain, other), "the image is looked at"


def test_the_losses_of_the_protocols_by_hand() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    rows = np.array([1])
    default = _Answerer(Points(), _training_split(), _config()).loss(logits, rows)
    assert float(default) == pytest.approx(-math.log(math.exp(-2) / sum(map(math.exp, (1, -2, 0.5)))))
    m3ae = _Answerer(Points(), _training_split(), _config(protocol="m3ae")).loss(logits, rows)
    by_hand = [math.log1p(math.exp(1)), math.log1p(math.exp(2)), math.log1p(math.exp(0.5))]
    assert float(m3ae) == pytest.approx(sum(by_hand), rel=1e-6)


def test_the_loss_of_two_sets_by_hand() -> None:
    """Of two closed rows with two answers and one open row with one: means in each set, summed."""
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 0.5], [9.0, 9.0, -1.0]], requires_grad=True)
    set_of = (np.arange(40) % 3 == 2).astype(np.int64)
    answerer = _Answerer(
        Points(),
        _training_split([[True, True, False], [False, False, True]], set_of),
        _config(protocol="mevf"),
    )
    rows = np.array([0, 1, 2])
    masked = logits.masked_fill(~answerer._allowed(rows), -math.inf)
    loss = answerer.loss(masked, rows)

    def right(logit: float) -> float:
        return math.log1p(math.exp(-logit))

    closed = [right(1.0), right(2.0), right(0.0), right(3.0)]  # a wrong answer's logit counts with its sign
    assert loss.item() == pytest.approx(sum(closed) / 4 + right(-1.0), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad == 0).tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_same_seed_same_answers_and_the_world_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        answer_probabilities(Points(), _training_split(), _config(dropout=0.2), seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.shape == (10, 3)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_answers_of_another_set_have_no_probability() -> None:
    set_of = (np.arange(40) % 3 == 2).astype(np.int64)
    split = _training_split([[True, True, False], [False, False, True]], set_of)
    found = answer_probabilities(Points(), split, _config(), seed=0)
    chosen = set_of[split.test] == 1
    assert (found[chosen] == [0, 0, 1]).all()
    assert (found[~chosen][:, 2] == 0).all()


def test_the_epoch_with_the_best_validation_counts() -> None:
    """Rows that choose have the learnt answers, so that what is kept must answer them at least as well."""
    kept = answer_probabilities(Points(), _training_split(), _config(epochs=25, learning_rate=0.05), seed=0)
    split = _training_split()
    last = TrainingSplit(
        learn=split.learn, choose=split.choose[:0], test=split.test, targets=split.targets,
        sets=split.sets, set_of=split.set_of,
    )  # fmt: skip
    assert not np.allclose(
        kept, answer_probabilities(Points(), last, _config(epochs=25, learning_rate=0.05), seed=0)
    )


def test_the_rate_rises_and_falls() -> None:
    schedule = _WarmupSchedule(100)
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(9) == schedule(10) == pytest.approx(1)
    assert 0 < schedule(99) < 0.01
    assert _WarmupSchedule(1)(0) == 1
    line = _WarmupSchedule(100, decay="linear")
    assert [line(step) for step in (0, 9, 10, 55, 100)] == pytest.approx([0.1, 1, 1, 0.5, 0])


def test_numbers_that_are_not_finite_are_named() -> None:
    with pytest.raises(NonFiniteError, match="must be finite"):
        answer_probabilities(Points(scale=math.nan), _training_split(), _config(), seed=0)


def test_the_optimizer_has_what_the_protocol_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.optim.AdamW] = []

    class Recording(torch.optim.AdamW):
        def __init__(self, groups: Any, **more: Any) -> None:
            super().__init__(groups, **more)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Recording)
    answer_probabilities(Points(), _training_split(), _config(protocol="m3ae", epochs=1), seed=0)
    (group,) = made[0].param_groups
    assert (group["initial_lr"], group["betas"], group["weight_decay"]) == (2.5e-4, (0.9, 0.98), 0.01)


def test_gradients_are_cut() -> None:
    free, wide, narrow = (
        answer_probabilities(Points(), _training_split(), _config(clip_norm=norm), seed=0)
        for norm in (None, 1e6, 1e-12)
    )
    np.testing.assert_array_equal(free, wide)
    assert not np.allclose(free, narrow, atol=1e-3)


def test_every_epoch_is_told() -> None:
    told: list[int] = []
    answer_probabilities(Points(), _training_split(), _config(epochs=4), seed=0, advance=told.append)
    assert told == [1] * 4


def test_normalization_over_batches_keeps_its_statistics() -> None:
    class Normalized(Points):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

    answerer = _Answerer(Normalized(), _training_split(), _config()).train()
    assert answerer.head.training
    assert not answerer.inputs.norm.training
