"""p values of pairs of models, against statsmodels and against hand-made counts."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from meddistill.evaluation.statistics.paired import bootstrap_p, holm, mcnemar_p, min_p


@pytest.mark.parametrize(
    ("resampled", "expected"),
    [
        ([1.0] * 99, 0.02),
        ([-1.0] * 99, 0.02),
        ([0.0] * 99, 1.0),
        ([1.0] * 94 + [-1.0] * 5, 0.12),
        ([1.0] * 90 + [-1.0] * 5 + [0.0] * 4, 0.16),  # half the ties on the smaller side: (5 + 2 + 1) / 100
        ([1.0] * 99 + [np.nan] * 50, 0.02),
        ([np.nan] * 9, None),
        ([], None),
    ],
)
def test_bootstrap_p_by_hand(resampled: list[float], expected: float | None) -> None:
    found = bootstrap_p(np.array([0.5, *resampled]))
    assert found == (None if expected is None else pytest.approx(expected))


def test_bootstrap_p_agrees_with_the_interval() -> None:
    """p < 5 % exactly where the 95 % percentile interval leaves zero out, up to the resolution."""
    random = np.random.default_rng(0)
    for centre in np.linspace(-3, 3, 25):
        replicates = np.concatenate([[centre], centre + random.normal(size=4000)])
        low, high = np.quantile(replicates[1:], [0.025, 0.975])
        p = bootstrap_p(replicates)
        if abs(p - 0.05) > 0.01:
            assert (p < 0.05) is not (low <= 0 <= high), centre


def test_bootstrap_p_is_uniform_under_no_difference() -> None:
    """The mean of 40 paired differences, 400 times: as many small p values as the name says."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(400):
        sample = random.normal(size=40)
        weights = random.poisson(1.0, size=(500, 40))
        means = np.concatenate([[sample.mean()], weights @ sample / weights.sum(axis=1)])
        found.append(bootstrap_p(means))
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(found) < 0.5) == pytest.approx(0.5, abs=0.08)


def test_the_least_p_is_the_least() -> None:
    assert bootstrap_p(np.ones(1001)) == pytest.approx(min_p(1000))


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels_holm(seed: int) -> None:
    values = np.round(np.random.default_rng(seed).random(12) ** 3, 2).tolist()  # with ties
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_skips_what_is_not_there() -> None:
    found = holm([None, 0.01, None, 0.04])
    assert found == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([]) == []
    assert holm([None]) == [None]


@pytest.mark.parametrize("seed", range(8))
def test_mcnemar_is_statsmodels_exact_test(seed: int) -> None:
    random = np.random.default_rng(seed)
    mine, theirs = random.random(40) < 0.7, random.random(40) < 0.5
    table = [
        [(mine & theirs).sum(), (mine & ~theirs).sum()],
        [(~mine & theirs).sum(), (~mine & ~theirs).sum()],
    ]
    assert mcnemar_p(mine, theirs) == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_mcnemar_without_a_row_that_differs() -> None:
    same = np.array([True, False, True])
    assert mcnemar_p(same, same) == 1
    assert mcnemar_p(same[:0], same[:0]) == 1
