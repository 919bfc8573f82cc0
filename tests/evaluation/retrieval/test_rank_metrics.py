"""Retrieval metrics over weighted queries, by hand and against numpy."""

from math import comb

import numpy as np
import pytest

from meddistill.evaluation.tasks.retrieval.metrics import chance_of, rank_metrics, weighted_median


def test_by_hand() -> None:
    """Image to text: ranks 1, 4, 20; text to image: 2, 2. Unit weights."""
    found = rank_metrics(
        directions=np.array([0, 0, 0, 1, 1]),
        ranks=np.array([1.0, 4.0, 20.0, 2.0, 2.0]),
        shares=np.ones(5),
        weights=np.ones((1, 5), dtype=np.float32),
        groups=np.arange(5),
    )
    values = {name: float(each[0]) for name, each in found.items()}
    assert values["image_to_text_hit_at_1"] == pytest.approx(1 / 3)
    assert values["image_to_text_hit_at_5"] == pytest.approx(2 / 3)
    assert values["image_to_text_hit_at_10"] == pytest.approx(2 / 3)
    assert values["image_to_text_median_rank"] == 4
    assert values["text_to_image_hit_at_1"] == 0
    assert values["text_to_image_hit_at_5"] == 1
    assert values["text_to_image_median_rank"] == 2
    assert values["mean_recall"] == pytest.approx((1 / 3 + 2 / 3 + 2 / 3 + 0 + 1 + 1) / 6)


def test_shares_of_one_query_count_as_one() -> None:
    """A caption of three patients, found at 1, and one of a single patient, never found."""
    found = rank_metrics(
        directions=np.array([0, 1, 1, 1, 1]),
        ranks=np.array([1.0, 1.0, 1.0, 1.0, 99.0]),
        shares=np.array([1, 1 / 3, 1 / 3, 1 / 3, 1]),
        weights=np.ones((1, 5), dtype=np.float32),
        groups=np.arange(5),
    )
    assert found["text_to_image_hit_at_1"][0] == pytest.approx(0.5)
    assert found["text_to_image_median_rank"][0] == 50


def test_a_direction_without_queries_is_undefined() -> None:
    found = rank_metrics(
        directions=np.array([0, 1]),
        ranks=np.array([1.0, 1.0]),
        shares=np.ones(2),
        weights=np.array([[1, 1], [1, 0]], dtype=np.float32),
        groups=np.arange(2),
    )
    np.testing.assert_array_equal(found["mean_recall"], [1.0, np.nan])
    np.testing.assert_array_equal(found["text_to_image_median_rank"], [1.0, np.nan])


@pytest.mark.parametrize("gallery", [3, 7, 40])
def test_chance_counts_the_draws_that_miss(gallery: int) -> None:
    positives = np.array([1, 2, 3])
    expected = [
        np.mean([1 - comb(gallery - p, min(k, gallery)) / comb(gallery, min(k, gallery)) for k in (1, 5, 10)])
        for p in positives.tolist()
    ]
    np.testing.assert_allclose(chance_of(positives, gallery), expected)


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_weighted_median_is_numpys_of_the_repeated_values(n: int) -> None:
    random = np.random.default_rng(n)
    values = random.integers(0, 6, n).astype(np.float64)
    weights = random.poisson(1.5, size=(20, n)).astype(np.float64)
    for weight, found in zip(weights, weighted_median(values, weights), strict=True):
        repeated = np.repeat(values, weight.astype(int))
        assert found == np.median(repeated) if len(repeated) else np.isnan(found)
