"""Metrics against scikit-survival and torchsurv, on whole cohorts, folds and resamples."""

import time

import numpy as np
import pytest
import torch
from cohorts import cohort, outcome

from meddistill.evaluation.tasks.survival.kaplan_meier import censoring
from meddistill.evaluation.tasks.survival.metrics import (
    LEAST_OBSERVED,
    RiskScores,
    concordance,
    horizon_auc,
    integrated_brier,
    survival_metrics,
)

oracles = pytest.importorskip("sksurv.metrics")


def _risk_scores(
    n: int = 70, *, seed: int = 0, ties: bool = False, folds: np.ndarray | None = None
) -> tuple[RiskScores, tuple[np.ndarray, np.ndarray]]:
    """Patients with risks that say something, and the training patients for the censoring."""
    features, times, events = cohort(n, ties=ties, seed=seed)
    _, *train = cohort(200, ties=ties, seed=seed + 100)
    risks = features[:, 0] + np.random.default_rng(seed).normal(size=n)
    risks = np.round(risks, 1) if ties else risks
    grid = np.linspace(2.0, 8.0, 9)
    curve = censoring(*train)
    inside = times < train[0].max()
    risk_scores = RiskScores(
        times=times,
        events=events,
        risks=risks,
        folds=np.zeros(n, dtype=np.int64) if folds is None else folds,
        strata=np.zeros(n, dtype=np.int64),
        reach=np.full(n, np.inf),
        censoring=np.where(inside, curve(times), 0.0),
        survival=np.exp(-np.exp(risks)[:, None] * grid / 20),
        censoring_at=np.tile(curve(grid), (n, 1)),
        grid=grid,
    )
    return risk_scores, (train[0], train[1])


def _ones(n: int) -> np.ndarray:
    return np.ones((1, n))


@pytest.mark.parametrize("ties", [False, True])
def test_all_metrics_are_those_of_scikit_survival(ties: bool) -> None:
    risk_scores, train = _risk_scores(ties=ties)
    found = survival_metrics(risk_scores, _ones(70), np.array([3.0, 6.0]))
    y, known = outcome(risk_scores.times, risk_scores.events), outcome(*train)
    tau = train[0].max()
    harrell = oracles.concordance_index_censored(risk_scores.events, risk_scores.times, risk_scores.risks)[0]
    uno = oracles.concordance_index_ipcw(known, y, risk_scores.risks, tau=tau)[0]
    areas, _ = oracles.cumulative_dynamic_auc(known, y, risk_scores.risks, [3.0, 6.0])
    brier = oracles.integrated_brier_score(known, y, risk_scores.survival, risk_scores.grid)
    assert found["c_index"][0] == pytest.approx(harrell, abs=1e-6)
    assert found["uno_c"][0] == pytest.approx(uno, abs=1e-6)
    assert found["auc_at_3"][0] == pytest.approx(areas[0], abs=1e-6)
    assert found["auc_at_6"][0] == pytest.approx(areas[1], abs=1e-6)
    assert found["mean_auc"][0] == pytest.approx(areas.mean(), abs=1e-6)
    assert found["integrated_brier"][0] == pytest.approx(brier, abs=1e-6)


def test_unos_c_ends_where_few_are_observed() -> None:
    """One late event must not decide it: scikit-survival's, truncated at the time where G falls below 0.1."""
    random = np.random.default_rng(3)
    died, left = random.exponential(12, 200), random.exponential(5, 200)
    times, events = np.minimum(died, left).round(2), died <= left
    times[-1], events[-1] = times.max() + 1, True
    risks = -died + random.normal(scale=4, size=200)
    risks[-1] = risks.max() + 1  # the last of all, called the first
    curve = censoring(times, events)
    n = len(times)
    risk_scores = RiskScores(
        times=times,
        events=events,
        risks=risks,
        folds=np.zeros(n, dtype=np.int64),
        strata=np.zeros(n, dtype=np.int64),
        censoring=np.where(times < times.max(), curve(times), 0.0),
        reach=np.full(n, times.max()),
        survival=np.ones((n, 1)),
        censoring_at=np.ones((n, 1)),
        grid=np.array([1.0]),
    )
    late = np.sort(times[curve(times) < LEAST_OBSERVED])[0]
    assert events[times >= late].sum() > 2
    y = outcome(times, events)
    oracle = oracles.concordance_index_ipcw(y, y, risks, tau=late)[0]
    whole = oracles.concordance_index_ipcw(y, y, risks)[0]
    found = concordance(risk_scores, _ones(n))["uno_c"][0]
    assert found == pytest.approx(oracle, abs=1e-6)
    assert abs(whole - oracle) > 0.01


def test_concordance_is_that_of_torchsurv() -> None:
    cindex = pytest.importorskip("torchsurv.metrics.cindex")
    ipcw = pytest.importorskip("torchsurv.stats.ipcw")
    risk_scores, train = _risk_scores()
    risks, events = torch.tensor(risk_scores.risks, dtype=torch.float32), torch.tensor(risk_scores.events)
    times = torch.tensor(risk_scores.times, dtype=torch.float32)
    found = concordance(risk_scores, _ones(70))
    assert found["c_index"][0] == pytest.approx(
        float(cindex.ConcordanceIndex()(risks, events, times)), abs=1e-6
    )
    known = torch.tensor(train[1]), torch.tensor(train[0], dtype=torch.float32)
    weights = ipcw.get_ipcw(*known, times)
    oracle = float(cindex.ConcordanceIndex()(risks, events, times, weight=weights))
    assert found["uno_c"][0] == pytest.approx(oracle, abs=1e-5)


def test_whole_weights_are_repeated_patients() -> None:
    risk_scores, _ = _risk_scores(n=40, ties=True)
    weights = np.random.default_rng(1).poisson(1.0, size=(3, 40)).astype(float)
    found = survival_metrics(risk_scores, weights, np.array([3.0, 6.0]))
    for row, copies in enumerate(weights):
        repeated = risk_scores.take(np.repeat(np.arange(40), copies.astype(int)))
        # Copies of one patient have the same time: they are comparable with none but themselves, never.
        again = survival_metrics(repeated, _ones(len(repeated.times)), np.array([3.0, 6.0]))
        for metric, replicates in found.items():
            assert replicates[row] == pytest.approx(again[metric][0], abs=1e-12), metric


def test_pairs_stay_inside_their_fold() -> None:
    folds = np.arange(70) % 3
    risk_scores, _ = _risk_scores(folds=folds)
    shifted = RiskScores(**{**risk_scores.__dict__, "risks": risk_scores.risks + 100 * folds})
    weights = np.random.default_rng(0).poisson(1.0, size=(5, 70)).astype(float)
    horizons = np.array([3.0, 6.0])
    first, second = (survival_metrics(each, weights, horizons) for each in (risk_scores, shifted))
    for metric in first:
        np.testing.assert_allclose(first[metric], second[metric], atol=1e-12)
    pairs = [0.0, 0.0]
    for fold in range(3):
        one = risk_scores.take(folds == fold)
        _, concordant, discordant, tied, _ = oracles.concordance_index_censored(
            one.events, one.times, one.risks
        )
        pairs[0] += concordant + tied / 2
        pairs[1] += concordant + discordant + tied
    assert concordance(risk_scores, _ones(70))["c_index"][0] == pytest.approx(pairs[0] / pairs[1], abs=1e-12)


def test_a_hand_sized_case() -> None:
    """Events at 1 and 3, censored at 2: pairs (1,2), (1,3) count; the second has equal risks."""
    risk_scores = RiskScores(
        times=np.array([1.0, 2.0, 3.0]),
        events=np.array([True, False, True]),
        risks=np.array([2.0, 1.0, 2.0]),
        folds=np.zeros(3, dtype=np.int64),
        strata=np.zeros(3, dtype=np.int64),
        reach=np.full(3, np.inf),
        censoring=np.ones(3),
        survival=np.array([[0.5], [0.5], [0.5]]),
        censoring_at=np.ones((3, 1)),
        grid=np.array([1.5]),
    )
    found = survival_metrics(risk_scores, _ones(3), np.array([1.5]))
    assert (found["c_index"][0], found["auc_at_1.5"][0]) == (0.75, 0.75)
    assert np.isnan(found["integrated_brier"][0])  # one time is no stretch


@pytest.mark.parametrize("case", ["all censored", "one patient", "equal times", "nobody drawn"])
def test_undefined_is_nan_and_no_error(case: str) -> None:
    risk_scores, _ = _risk_scores(n=12)
    weights = _ones(12)
    if case == "all censored":
        risk_scores = RiskScores(**{**risk_scores.__dict__, "events": np.zeros(12, dtype=bool)})
    elif case == "one patient":
        risk_scores, weights = risk_scores.take(np.array([0])), _ones(1)
    elif case == "equal times":
        risk_scores = RiskScores(
            **{**risk_scores.__dict__, "times": np.full(12, 4.0), "events": np.ones(12, dtype=bool)}
        )
    else:
        weights = np.zeros((1, 12))
    found = survival_metrics(risk_scores, weights, np.array([3.0]))
    assert all(np.isnan(found[name][0]) for name in ("c_index", "uno_c", "auc_at_3", "mean_auc"))


def test_equal_risks_are_a_coin_toss() -> None:
    risk_scores, _ = _risk_scores(n=30)
    level = RiskScores(**{**risk_scores.__dict__, "risks": np.zeros(30)})
    found = survival_metrics(level, _ones(30), np.array([3.0]))
    assert [found[name][0] for name in ("c_index", "uno_c", "auc_at_3")] == pytest.approx([0.5, 0.5, 0.5])


def test_a_thousand_resamples_of_five_thousand_patients_take_seconds() -> None:
    risk_scores, _ = _risk_scores(n=5000, folds=np.arange(5000) % 5)
    weights = np.random.default_rng(0).poisson(1.0, size=(1001, 5000)).astype(float)
    start = time.process_time()
    concordance(risk_scores, weights)
    horizon_auc(risk_scores, weights, 5.0)
    integrated_brier(risk_scores, weights)
    assert time.process_time() - start < 20  # of processor time, on a machine that does other work too
