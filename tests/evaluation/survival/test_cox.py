"""Cox's model against statsmodels, scikit-survival and torchsurv, and its own optimality."""

import numpy as np
import pytest
import torch
from cohorts import cohort, outcome

from meddistill.evaluation.tasks.survival.cox import PartialLikelihood, Ties, fit_cox

phreg = pytest.importorskip("statsmodels.duration.hazard_regression")
linear_model = pytest.importorskip("sksurv.linear_model")
torchsurv_cox = pytest.importorskip("torchsurv.loss.cox")

TIES: tuple[Ties, ...] = ("efron", "breslow")


@pytest.mark.parametrize("ties", TIES)
def test_coefficients_are_those_of_statsmodels(ties: Ties) -> None:
    features, times, events = cohort(ties=True)
    found = fit_cox(features, times, events, penalty=1e-12, ties=ties)
    oracle = phreg.PHReg(times, features, status=events.astype(int), ties=ties).fit(disp=0)
    np.testing.assert_allclose(found.coefficients, oracle.params, atol=1e-6)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_ridge_is_that_of_scikit_survival(ties: Ties, penalty: float) -> None:
    features, times, events = cohort(ties=True)
    found = fit_cox(features, times, events, penalty=penalty, ties=ties)
    # Their objective is -ℓ / n + alpha / 2 |β|² / n.
    oracle = linear_model.CoxPHSurvivalAnalysis(alpha=penalty * events.sum(), ties=ties, tol=1e-12)
    oracle.fit(features, outcome(times, events))
    np.testing.assert_allclose(found.coefficients, oracle.coef_, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Ties in")
@pytest.mark.parametrize("ties", TIES)
def test_the_likelihood_is_that_of_torchsurv(ties: Ties) -> None:
    features, times, events = cohort(ties=True, seed=3)
    coefficients = np.array([0.5, -0.2, 0.1])
    found = PartialLikelihood(features, times, events, ties).value(coefficients)
    oracle = torchsurv_cox.neg_partial_log_likelihood(
        torch.tensor(features @ coefficients, dtype=torch.float32),
        torch.tensor(events),
        torch.tensor(times, dtype=torch.float32),
        ties_method=ties,
        reduction="sum",
    )
    assert found == pytest.approx(-float(oracle), rel=1e-5)


@pytest.mark.parametrize("ties", TIES)
def test_derivatives_are_those_of_finite_differences(ties: Ties) -> None:
    features, times, events = cohort(n=25, ties=True, seed=1)
    likelihood = PartialLikelihood(features, times, events, ties)
    point, step = np.array([0.3, -0.7, 0.2]), 1e-5
    _, gradient, hessian = likelihood.derivatives(point)
    for axis, move in enumerate(np.eye(3) * step):
        slope = (likelihood.value(point - move) - likelihood.value(point + move)) / (2 * step)
        assert gradient[axis] == pytest.approx(slope, abs=1e-6)
        bend = (likelihood.derivatives(point + move)[1] - likelihood.derivatives(point - move)[1]) / (
            2 * step
        )
        np.testing.assert_allclose(hessian[axis], bend, atol=1e-6)


@pytest.mark.parametrize("ties", TIES)
def test_the_solution_is_stationary(ties: Ties) -> None:
    features, times, events = cohort(n=200, width=12, ties=True)
    found = fit_cox(features, times, events, penalty=0.05, ties=ties)
    _, gradient, _ = PartialLikelihood(features, times, events, ties).derivatives(found.coefficients)
    assert np.abs(gradient / events.sum() + 0.05 * found.coefficients).max() < 1e-9


def test_a_partial_likelihood_by_hand() -> None:
    """Two events at time 1 among three at risk: Breslow divides by 3 twice, Efron by 3 and by 2."""
    rows, times, events = np.zeros((3, 1)), np.array([1.0, 1.0, 2.0]), np.array([True, True, False])
    at_zero = np.zeros(1)
    assert PartialLikelihood(rows, times, events, "breslow").value(at_zero) == pytest.approx(-np.log(9))
    assert PartialLikelihood(rows, times, events, "efron").value(at_zero) == pytest.approx(-np.log(6))


def test_survival_is_that_of_scikit_survival() -> None:
    features, times, events = cohort(ties=True)
    found = fit_cox(features, times, events, penalty=0.01, ties="efron")
    oracle = linear_model.CoxPHSurvivalAnalysis(alpha=0.01 * events.sum(), ties="efron", tol=1e-12)
    oracle.fit(features, outcome(times, events))
    grid = np.array([1.0, 2.5, 4.0, 7.0])
    others = np.stack([curve(grid) for curve in oracle.predict_survival_function(features[:9])])
    np.testing.assert_allclose(found.survival(features[:9], grid), others, atol=1e-6)


def test_no_event_and_separable_rows_have_a_finite_fit() -> None:
    features, times, _ = cohort(n=10)
    nobody = fit_cox(features, times, np.zeros(10, dtype=bool), penalty=0.1, ties="efron")
    assert not nobody.coefficients.any()
    np.testing.assert_array_equal(nobody.survival(features, times), 1.0)
    order = -np.argsort(np.argsort(times))[:, None].astype(float)
    sure = fit_cox(order * 100, times, np.ones(10, dtype=bool), penalty=1e-3, ties="efron")
    assert np.isfinite(sure.coefficients).all()
    assert np.isfinite(sure.survival(order * 100, times)).all()
