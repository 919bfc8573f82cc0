"""Logistic hazards against scikit-learn and by hand."""

import numpy as np
import pytest
from cohorts import cohort
from sklearn.linear_model import LogisticRegression

from meddistill.evaluation.tasks.survival.discrete import DiscreteModel, fit_discrete


def test_every_stretch_is_the_logistic_regression_of_those_at_risk() -> None:
    features, times, events = cohort(n=300)
    found = fit_discrete(features, times, events, penalty=0.1, bins=4)
    assert len(found.edges) == 5
    np.testing.assert_allclose(found.edges[1:-1], np.quantile(times[events], [0.25, 0.5, 0.75]))
    for stretch in range(3):
        at_risk = times >= found.edges[stretch]
        ended = events & (times < found.edges[stretch + 1])
        oracle = LogisticRegression(C=1 / (0.1 * events.sum()), tol=1e-10, max_iter=10_000)
        oracle.fit(features[at_risk], ended[at_risk])
        mine = found.coefficients[stretch]
        np.testing.assert_allclose(mine[1:], oracle.coef_[0], atol=1e-4)
        assert mine[0] == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_survival_and_risk_by_hand() -> None:
    """Hazards of a half and a quarter: S is 1/2 and 3/8 at the ends, √(1/2) in the middle of the first."""
    hazards = np.array([0.5, 0.25])
    coefficients = np.concatenate([np.log(hazards / (1 - hazards))[:, None], np.zeros((2, 1))], axis=1)
    model = DiscreteModel(
        coefficients=coefficients,
        edges=np.array([0.0, 2.0, 6.0]),
        strata=np.zeros(0, dtype=np.int64),
        offsets=np.zeros((2, 0)),
    )
    row = np.zeros((1, 1))
    found = model.survival(row, np.array([0.0, 1.0, 2.0, 6.0, 60.0]))[0]
    np.testing.assert_allclose(found, [1, np.sqrt(0.5), 0.5, 0.375, 0.375])
    assert model.risk(row)[0] == pytest.approx(-0.875)
    # An event in the first stretch, and one censored in the second, which counts as kept through it.
    rows, times, events = np.zeros((2, 1)), np.array([1.0, 3.0]), np.array([True, False])
    expected = np.log(0.5) + np.log(0.5) + np.log(0.75)
    assert model.log_likelihood(rows, times, events) == pytest.approx(expected)


@pytest.mark.parametrize("seen", [False, True])
def test_all_censored_all_seen_and_equal_times(seen: bool) -> None:
    features = np.random.default_rng(0).normal(size=(12, 2))
    for times in (np.full(12, 3.0), np.zeros(12), np.arange(12.0)):
        model = fit_discrete(features, times, np.full(12, seen), penalty=0.1, bins=4)
        survival = model.survival(features, np.array([0.0, 1.0, 3.0, 20.0]))
        assert np.isfinite(model.risk(features)).all()
        assert ((survival >= 0) & (survival <= 1)).all()
        assert (np.diff(survival, axis=1) <= 1e-12).all()


def test_a_planted_hazard_is_found() -> None:
    features, times, events = cohort(n=400, signal=2.0)
    model = fit_discrete(features, times, events, penalty=0.01, bins=4)
    assert np.corrcoef(model.risk(features), features[:, 0])[0, 1] > 0.8
