"""Kaplan-Meier curves and the log-rank test against statsmodels and scikit-survival."""

import numpy as np
import pytest
from cohorts import cohort

from meddistill.evaluation.tasks.survival.kaplan_meier import (
    censoring,
    kaplan_meier,
    log_rank,
    median_follow_up,
)

survfunc = pytest.importorskip("statsmodels.duration.survfunc")
nonparametric = pytest.importorskip("sksurv.nonparametric")


@pytest.mark.parametrize("ties", [False, True])
def test_curve_and_interval_are_those_of_scikit_survival(ties: bool) -> None:
    _, times, events = cohort(n=80, ties=ties)
    found = kaplan_meier(times, events)
    moments, values, interval = nonparametric.kaplan_meier_estimator(events, times, conf_type="log-log")
    np.testing.assert_allclose(found.times, moments)
    np.testing.assert_allclose(found.values, values, atol=1e-12)
    inside = (values > 0) & (values < 1)
    np.testing.assert_allclose(found.low[inside], interval[0][inside], atol=1e-9)
    np.testing.assert_allclose(found.high[inside], interval[1][inside], atol=1e-9)
    assert (found.at_risk == [(times >= moment).sum() for moment in moments]).all()


def test_events_come_before_censorings_of_the_same_time() -> None:
    times, events = np.array([1.0, 1.0, 2.0]), np.array([True, False, False])
    np.testing.assert_allclose(censoring(times, events)(np.array([0.5, 1.0, 2.0])), [1, 0.5, 0])
    _, times, events = cohort(n=80, ties=True)
    moments, values = nonparametric.kaplan_meier_estimator(events, times, reverse=True)
    np.testing.assert_allclose(censoring(times, events)(moments), values, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_log_rank_test_is_that_of_statsmodels(ties: bool) -> None:
    features, times, events = cohort(n=80, ties=ties, signal=0.5)
    first = features[:, 0] > 0
    _, oracle = survfunc.survdiff(times, events.astype(int), first.astype(int))
    assert log_rank(times, events, first) == pytest.approx(oracle, rel=1e-9)


def test_no_p_value_without_a_comparison() -> None:
    times, events = np.array([1.0, 2.0, 3.0]), np.array([True, True, True])
    nobody = np.zeros(3, dtype=bool)
    assert log_rank(times, events, nobody) is None
    assert log_rank(times, nobody, np.array([True, False, False])) is None
    assert log_rank(np.full(3, 2.0), events, np.array([True, False, False])) is None  # all end together


def test_curves_of_nobody_and_of_one() -> None:
    empty = kaplan_meier(np.zeros(0), np.zeros(0, dtype=bool))
    np.testing.assert_array_equal(empty(np.array([0.0, 5.0])), 1.0)
    one = kaplan_meier(np.array([2.0]), np.array([True]))
    np.testing.assert_array_equal(one(np.array([1.9, 2.0, 3.0])), [1, 0, 0])
    assert (one.low[0], one.high[0]) == (0, 0)


def test_follow_up_is_the_median_time_to_censoring() -> None:
    times, events = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, False, False])
    assert median_follow_up(times, events) == 3  # G is 2/3 from 2 on and 1/3 from 3 on
    assert median_follow_up(times, ~np.zeros(4, dtype=bool)) is None
