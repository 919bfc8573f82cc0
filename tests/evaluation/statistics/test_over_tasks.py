"""Tests over tasks: against scipy, against published tables, and where there is nothing to test."""

import numpy as np
import pytest
from scipy import stats

from meddistill.evaluation.statistics.over_tasks import (
    Gap,
    complete,
    critical_difference,
    friedman,
    mean_ranks,
    signed_rank,
    tally,
)
from meddistill.evaluation.statistics.places import places


def _gap(value: float, half: float | None) -> Gap:
    if half is None:
        return Gap(value=value, low=None, high=None)
    return Gap(value=value, low=value - half, high=value + half)


def test_wins_ties_and_losses_by_interval_and_by_value() -> None:
    gaps = [
        _gap(0.3, 0.1),
        _gap(0.05, 0.1),
        _gap(-0.3, 0.1),
        _gap(-0.1, None),
        _gap(1e-15, 0.1),
        _gap(0.1, 0.1),
    ]
    found = tally(gaps)
    assert (found.wins, found.ties, found.losses) == (1, 4, 1)
    assert (found.raw_wins, found.raw_ties, found.raw_losses) == (3, 1, 2)
    assert vars(tally([])) == dict.fromkeys(vars(found), 0)


def test_signed_rank_exactly_by_hand() -> None:
    """All of six tasks on one side: of 2^6 sign patterns two are as extreme."""
    found = signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert found.p_value == pytest.approx(2 / 64)
    assert signed_rank([-0.1, -0.2, -0.3, -0.4, -0.5, -0.6]).p_value == pytest.approx(2 / 64)


@pytest.mark.parametrize("size", [7, 15, 60])
def test_signed_rank_is_scipys(size: int) -> None:
    values = np.random.default_rng(size).normal(0.2, 1, size)
    assert signed_rank(values.tolist()).p_value == pytest.approx(stats.wilcoxon(values).pvalue)


@pytest.mark.parametrize("size", [6, 9, 13])
@pytest.mark.parametrize("decimals", [0, 1])
def test_signed_rank_with_ties_and_zeros_is_scipys(size: int, decimals: int) -> None:
    values = np.round(np.random.default_rng(size).normal(0.6, size=size), decimals)
    assert len(np.unique(np.abs(values))) < size or not values.all()
    found, oracle = signed_rank(values.tolist()), stats.wilcoxon(values)
    assert (found.statistic, found.p_value) == pytest.approx((oracle.statistic, oracle.pvalue))


def test_signed_rank_of_few_tasks_is_not_made() -> None:
    found = signed_rank([0.1] * 5)
    assert found.p_value is None
    assert "below 6 tasks" in found.note


def test_signed_rank_of_no_difference_is_one() -> None:
    assert signed_rank([0.0] * 8).p_value == 1
    assert signed_rank([1e-17, -1e-17] * 4).p_value == 1
    assert 0 < signed_rank([0.0] * 7 + [0.1]).p_value <= 1


def test_friedman_is_scipys_with_ties() -> None:
    scores = np.round(np.random.default_rng(0).random((9, 4)), 1)
    found = friedman(scores)
    expected = stats.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))


def test_friedman_where_all_models_tie() -> None:
    assert friedman(np.full((6, 3), 0.7)).p_value == 1
    assert friedman(np.repeat(np.linspace(0, 1, 6)[:, None], 3, axis=1)).p_value == 1


@pytest.mark.parametrize("shape", [(4, 3), (5, 2), (0, 3), (6, 0)])
def test_friedman_of_little_is_not_made(shape: tuple[int, int]) -> None:
    assert friedman(np.zeros(shape)).p_value is None


def test_ranks_are_shared_and_one_is_best() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.1]])
    assert mean_ranks(scores).tolist() == [1.25, 1.75, 3.0]


@pytest.mark.parametrize(("models", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_demsars_table(models: int, q: float) -> None:
    expected = q * (models * (models + 1) / (6 * 14)) ** 0.5
    assert critical_difference(14, models, 0.05) == pytest.approx(expected, abs=1e-3)


def test_demsars_own_example() -> None:
    """Demšar (2006), section 3.2.2: four algorithms on 14 data sets, critical difference 1.25 at 0.05."""
    assert critical_difference(14, 4, 0.05) == pytest.approx(1.25, abs=0.01)


def test_models_without_all_tasks_are_left_out() -> None:
    scores = {("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): 3.0}
    models, values = complete(scores, ["a", "b"], ["x", "y"])
    assert (models, values.tolist()) == (["a"], [[1.0], [2.0]])
    assert complete({}, ["a"], [])[1].shape == (0, 1)


def test_places_by_hand() -> None:
    """Of four resamples a is alone first in two, level with b in one, second in one."""
    found = {
        each.model: each
        for each in places(
            "t",
            {"a": np.array([0.5, 3, 3, 2, 1]), "b": np.array([0.5, 1, 1, 2, 3]), "c": np.zeros(5)},
            level=0.95,
        )
    }
    assert [found[name].first for name in "abc"] == [0.625, 0.375, 0.0]
    assert [found[name].rank for name in "abc"] == [1.375, 1.625, 3.0]
    assert sum(each.first for each in found.values()) == 1
    assert {each.models for each in found.values()} == {3}


def test_places_leave_out_what_is_not_defined() -> None:
    nan = np.nan
    found = places("t", {"a": np.array([1, nan, 2, 2]), "b": np.array([1, 1, 1, 1.0])}, level=0.9)
    assert [each.first for each in found] == [1.0, 0.0]
    assert places("t", {"a": np.array([1, nan, nan, 2]), "b": np.ones(4)}, level=0.9) == []
    assert places("t", {"a": np.ones(4)}, level=0.9) == []
