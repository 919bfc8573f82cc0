"""Decoders on frozen patch tokens."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from meddistill.evaluation.tasks.segmentation.config import SegmentationProbeConfig
from meddistill.evaluation.tasks.segmentation.decoder import DETAIL, Targets, TokenGrids, fit


def _config(**more: object) -> SegmentationProbeConfig:
    known = {"name": "t", "kind": "segmentation_probe", "train": "a", "test": "b", "epochs": 30}
    return SegmentationProbeConfig.model_validate({**known, "batch_size": 4, **more})


def _data(n: int, seed: int, *, noise: float = 0.3, width: int = 6) -> tuple[TokenGrids, Targets]:
    """Patches are marked as wholes where the first two channels say so."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 20, width)) * np.array([1, 30] + [0.01] * (width - 2)) + 5
    score = (values[..., 0] - 5) + (values[..., 1] - 5) / 30 + noise * random.normal(size=(n, 20))
    marked = (score > 0.7).reshape(n, 4, 5).astype(np.float32)
    shares = marked.repeat(DETAIL, axis=1).repeat(DETAIL, axis=2)
    tokens = TokenGrids(values=values.astype(np.float16), grid=(4, 5))
    return tokens, Targets(shares=shares, inside=np.ones_like(shares))


def _right(logits: np.ndarray, targets: Targets) -> float:
    step = targets.shares.shape[1] // logits.shape[1]
    truth = targets.shares[:, step // 2 :: step, step // 2 :: step] > 0.5
    return float(((logits > 0) == truth).mean())


@pytest.mark.parametrize(("decoder", "shape"), [("linear", (4, 5)), ("light", (16, 20))])
def test_both_learn_and_differ_in_their_grid(decoder: str, shape: tuple[int, int]) -> None:
    test = _data(30, 1)
    logits = fit(_data(60, 0), _data(20, 2), _config(decoder=decoder), seed=0).logits(test[0])
    assert logits.shape == (30, *shape)
    oracle = LogisticRegression().fit(
        _data(60, 0)[0].values.reshape(-1, 6).astype(np.float64) / np.array([1, 30, 1, 1, 1, 1]),
        _data(60, 0)[1].shares[:, 2::4, 2::4].reshape(-1) > 0.5,
    )
    points = test[0].values.reshape(-1, 6).astype(np.float64) / np.array([1, 30, 1, 1, 1, 1])
    best = (oracle.predict(points) == (test[1].shares[:, 2::4, 2::4].reshape(-1) > 0.5)).mean()
    # Bilinear values between patches cannot follow steps at their edges: some points are lost to that.
    assert _right(logits, test[1]) > best - 0.1


def test_equal_seeds_give_equal_numbers_and_leave_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        fit(_data(12, 0), None, _config(epochs=3), seed=seed).logits(_data(5, 1)[0]) for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_validation_chooses_the_epoch() -> None:
    """Validation that says the opposite of training likes the first epoch best, and training the last."""
    train, test = _data(40, 0, noise=0), _data(20, 1, noise=0)
    opposite = (test[0], Targets(shares=1 - test[1].shares, inside=test[1].inside))
    config = _config(epochs=60, learning_rate=0.05, batch_size=40)
    right = [
        _right(fit(train, validation, config, seed=0).logits(test[0]), test[1])
        for validation in (None, test, opposite)
    ]
    assert right[2] < min(right[:2]) - 0.03
    assert right[1] >= right[0] - 0.02


@pytest.mark.parametrize("decoder", ["linear", "light"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_that_are_all_alike_and_tokens_that_never_vary(decoder: str, share: float) -> None:
    tokens = TokenGrids(values=np.full((6, 20, 3), 2, dtype=np.float16), grid=(4, 5))
    shares = np.full((6, 16, 20), share, dtype=np.float32)
    data = (tokens, Targets(shares=shares, inside=np.ones_like(shares)))
    logits = fit(data, data, _config(decoder=decoder, epochs=2), seed=0).logits(tokens)
    assert np.isfinite(logits).all()
    assert ((logits > 0) == bool(share)).all()


def test_what_lies_outside_the_images_teaches_nothing() -> None:
    tokens, targets = _data(20, 0)
    inside = targets.inside.copy()
    inside[:, 8:] = 0
    wrong = targets.shares.copy()
    wrong[:, 8:] = 1 - wrong[:, 8:]
    config = _config(epochs=5)
    first, second = (
        fit((tokens, Targets(shares=shares, inside=inside)), None, config, seed=0).logits(tokens)
        for shares in (targets.shares, wrong)
    )
    np.testing.assert_array_equal(first, second)
