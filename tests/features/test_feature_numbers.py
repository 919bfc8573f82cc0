"""Precisions and statistics, against numpy."""

import numpy as np
import pytest
import torch

from meddistill.errors import NonFiniteError, StoreError
from meddistill.features.encoding import decoded, encode
from meddistill.features.statistics import QUANTILES, Accumulator, Statistics, statistics_of


def encoded(values: torch.Tensor, precision: str, leading: int = 1):
    return encode(
        values, precision, leading=leading, subject="image output of teacher 'a'", named="elements {}".format
    )


@pytest.mark.parametrize(("precision", "dtype"), [("float16", np.float16), ("float32", np.float32)])
def test_floats_are_rounded_as_numpy_does(precision: str, dtype: type) -> None:
    values = torch.randn(20, 7) * 1000
    found = encoded(values, precision)
    assert found.scale is None
    assert np.array_equal(found.values, values.numpy().astype(dtype))


@pytest.mark.parametrize("leading", [1, 2])
def test_int8_is_within_half_a_step(leading: int) -> None:
    values = torch.randn(6, 3, 10) * torch.logspace(-6, 6, 6)[:, None, None]
    values[2, 1] = 0
    found = encoded(values, "int8", leading)
    assert found.values.dtype == np.int8
    assert found.scale.shape == values.shape[:leading]
    largest = (
        values.abs().flatten(leading).amax(-1).reshape(*found.scale.shape, *(1,) * (3 - leading)).numpy()
    )
    error = np.abs(decoded(found.values, found.scale) - values.numpy())
    assert (error <= largest / 254 * (1 + 1e-5)).all()


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_by_table_row(precision: str, bad: float) -> None:
    values = torch.zeros(6, 4)
    values[3, 1] = values[5, 0] = bad
    with pytest.raises(
        NonFiniteError, match=r"image output of teacher 'a' must be finite; .* elements \[3, 5\]"
    ):
        encoded(values, precision)


def test_float16_overflow_is_refused_with_advice() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, -70000.0]])
    with pytest.raises(
        StoreError, match=r"must fit float16 .* got 7e\+04 for elements \[1\]\. .*precision: float32"
    ):
        encoded(values, "float16")
    assert encoded(values, "float32").values[1, 1] == -70000
    assert np.isfinite(encoded(torch.tensor([[65504.0]]), "float16").values).all()


def test_statistics_are_numpys() -> None:
    numbers = np.random.default_rng(0)
    values = (numbers.standard_normal((1000, 6)) * [1, 2, 3, 4, 5, 0] + 100).astype(np.float16)
    found = statistics_of(np.split(values, [10, 11, 500]), 6)
    exact = values.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    assert found.count == 1000
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(exact.T, bias=True), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.norm_quantiles, np.quantile(norms, QUANTILES), rtol=1e-12)
    assert found.norm_mean == pytest.approx(norms.mean(), rel=1e-12)


def test_statistics_do_not_cancel() -> None:
    values = np.random.default_rng(0).standard_normal((5000, 2)) + 1e8
    found = statistics_of(np.split(values, 10), 2)
    np.testing.assert_allclose(found.covariance, np.cov(values.T, bias=True), rtol=1e-6)


def test_equal_parts_in_equal_order_give_equal_bits() -> None:
    values = np.random.default_rng(0).standard_normal((999, 16))
    first, second = (statistics_of(np.split(values, [100, 300]), 16) for _ in range(2))
    assert first.covariance.tobytes() == second.covariance.tobytes()
    assert first.mean.tobytes() == second.mean.tobytes()


def test_tokens_count_singly_and_large_parts_are_cut() -> None:
    values = np.random.default_rng(0).standard_normal((3000, 4, 5)).astype(np.float32)
    found = statistics_of([values], 5)
    assert found.count == 12000
    np.testing.assert_allclose(
        found.covariance, np.cov(values.reshape(-1, 5).T.astype(float), bias=True), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("variances", "rank"), [([1, 1, 1, 1], 4), ([1, 0, 0, 0], 1), ([0, 0], 0), ([3, 3, 0], 2)]
)
def test_effective_rank(variances: list[float], rank: float) -> None:
    dim = len(variances)
    statistics = Statistics(
        count=1,
        mean=np.zeros(dim),
        covariance=np.diag(variances).astype(float),
        norm_mean=0,
        norm_quantiles=np.zeros(9),
    )
    assert statistics.effective_rank == pytest.approx(rank)


def test_statistics_travel_as_tensors() -> None:
    accumulator = Accumulator(3)
    accumulator.add(np.random.default_rng(0).standard_normal((10, 3)))
    found = accumulator.result()
    back = Statistics.of_tensors(found.tensors("image"), "image")
    assert back.count == 10
    assert np.array_equal(back.covariance, found.covariance)
    assert np.array_equal(back.norm_quantiles, found.norm_quantiles)


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_int8_keeps_directions_and_lengths_of_features(spread: float) -> None:
    numbers = np.random.default_rng(0)
    # As towers give them: a common direction, a few large dims, all lengths, some rows of zeros.
    values = numbers.standard_normal((2000, 512)) + 0.5 * numbers.standard_normal(512)
    values[:, :4] *= 6
    values *= np.exp(numbers.normal(0, spread, (2000, 1)))
    values[::100] = 0
    found = encoded_rows(values.astype(np.float32))
    back = decoded(found.values, found.scale).astype(np.float64)
    assert (np.abs(back - values) <= found.scale[:, None] / 2 * (1 + 1e-5)).all()
    assert (back[::100] == 0).all()
    there = np.linalg.norm(values, axis=1) > 0
    cosines = (back * values).sum(1)[there] / np.linalg.norm(back, axis=1)[there]
    assert (cosines / np.linalg.norm(values, axis=1)[there]).min() >= 0.999
    if spread < 1:  # otherwise a few rows are all that statistics tell of
        exact, stored = statistics_of([values], 512), statistics_of([back], 512)
        assert np.abs(stored.mean - exact.mean).max() < 1e-3 * np.sqrt(np.trace(exact.covariance))
        difference = np.linalg.norm(stored.covariance - exact.covariance)
        assert difference < 1e-2 * np.linalg.norm(exact.covariance)
        np.testing.assert_allclose(stored.norm_mean, exact.norm_mean, rtol=2e-3)


def encoded_rows(values: np.ndarray):
    return encode(
        torch.from_numpy(values), "int8", leading=1, subject="image output", named="elements {}".format
    )
