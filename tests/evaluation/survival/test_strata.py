"""Cohorts that must not be compared with one another: likelihoods, folds, metrics, and a planted pair."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohorts import cohort
from colour_world import ColourModel
from PIL import Image

from meddistill.errors import TableError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.survival import task as survival_task
from meddistill.evaluation.tasks.survival.cox import StratifiedLikelihood, Ties, fit_cox
from meddistill.evaluation.tasks.survival.curves import risk_group_curves, split_at_median
from meddistill.evaluation.tasks.survival.discrete import fit_discrete
from meddistill.evaluation.tasks.survival.features import image_block
from meddistill.evaluation.tasks.survival.fitting import Outcomes, OutOfFold
from meddistill.evaluation.tasks.survival.folds import assign_folds
from meddistill.evaluation.tasks.survival.kaplan_meier import censoring, log_rank
from meddistill.evaluation.tasks.survival.metrics import RiskScores, concordance, survival_metrics
from meddistill.evaluation.tasks.survival.predictions import SurvivalPredictions
from meddistill.evaluation.tasks.survival.task import Survival
from meddistill.progress import SilentProgress

TIES: tuple[Ties, ...] = ("efron", "breslow")


def _strata(n: int, seed: int = 0, count: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(count, size=n)


@pytest.mark.parametrize("ties", TIES)
def test_coefficients_are_those_of_statsmodels(ties: Ties) -> None:
    phreg = pytest.importorskip("statsmodels.duration.hazard_regression")
    features, times, events = cohort(n=90, ties=True, seed=2)
    strata = _strata(90)
    features[:, 1] += 2 * strata  # what differs between strata must not matter
    found = fit_cox(features, times, events, penalty=1e-12, ties=ties, strata=strata)
    oracle = phreg.PHReg(times, features, status=events.astype(int), ties=ties, strata=strata).fit(disp=0)
    np.testing.assert_allclose(found.coefficients, oracle.params, atol=1e-6)
    pooled = fit_cox(features, times, events, penalty=1e-12, ties=ties)
    assert np.abs(found.coefficients - pooled.coefficients).max() > 0.01


def test_a_stratified_likelihood_is_the_sum_of_its_strata_and_moves_with_none_of_them() -> None:
    features, times, events = cohort(n=60, ties=True)
    strata = np.arange(60) % 2
    at = np.array([0.4, -0.1, 0.2])

    def value(features: np.ndarray, times: np.ndarray) -> float:
        return StratifiedLikelihood(features, times, events, ties="efron", strata=strata).value(at)

    whole = value(features, times)
    assert value(features, times + 1000 * strata) == pytest.approx(whole)
    assert value(features + strata[:, None], times) == pytest.approx(whole)


def test_baseline_hazards_are_those_of_each_stratum_alone() -> None:
    features, times, events = cohort(n=80)
    strata = _strata(80, count=2)
    times = np.where(strata == 1, 3 * times, times)
    model = fit_cox(features, times, events, penalty=0.1, ties="efron", strata=strata)
    grid, rows = np.array([2.0, 5.0, 9.0]), features[:4]
    for stratum in (0, 1):
        mine = strata == stratum
        relative = np.exp(features[mine] @ model.coefficients)
        hazard = [
            sum(
                1 / relative[times[mine] >= moment].sum() for moment in times[mine & events] if moment <= time
            )
            for time in grid
        ]
        expected = np.exp(-np.exp(rows @ model.coefficients)[:, None] * np.array(hazard))
        found = model.survival(rows, grid, np.full(4, stratum))
        np.testing.assert_allclose(found, expected, atol=1e-12)
    # Nobody of stratum 7 was there to learn from.
    pooled = fit_cox(features, times, events, penalty=0.1, ties="efron", strata=strata)
    unknown = pooled.survival(rows, grid, np.full(4, 7))
    assert np.isfinite(unknown).all()
    low, high = (model.survival(rows, grid, np.full(4, stratum)) for stratum in (0, 1))
    assert ((unknown > low) & (unknown < high)).all()


def test_discrete_intercepts_are_those_of_each_stratum() -> None:
    """With a penalty that leaves no coefficient, hazards are the strata's own shares."""
    features, times, events = cohort(n=200)
    strata = _strata(200, count=2)
    times = np.where(strata == 1, 2 * times, times)
    model = fit_discrete(features, times, events, penalty=1e6, bins=3, strata=strata)
    for stratum in (0, 1):
        mine = strata == stratum
        kept = 1.0
        survival = model.survival(features[:1], model.edges[1:], np.array([stratum]))[0]
        for place, (start, end) in enumerate(zip(model.edges, model.edges[1:], strict=False)):
            last = place == len(model.edges) - 2
            at_risk = mine & (times >= start)
            ended = at_risk & events & ((times < end) | last)
            kept *= 1 - ended.sum() / at_risk.sum()
            assert survival[place] == pytest.approx(kept, abs=0.002)
    assert model.log_likelihood(features, times, events, strata) > model.log_likelihood(
        features, times, events
    )
    assert model.risk(features[:1], np.array([0])) > model.risk(features[:1], np.array([1]))


def test_features_lose_what_tells_the_stratum() -> None:
    random, strata = np.random.default_rng(0), _strata(40)
    features = random.normal(size=(40, 6))
    train = np.arange(30)
    first = image_block(features, 3, strata)(train, 20)
    second = image_block(features + 100 * strata[:, None], 3, strata)(train, 20)
    np.testing.assert_allclose(np.abs(first), np.abs(second), atol=1e-9)
    for stratum in range(3):
        np.testing.assert_allclose(first[train][strata[train] == stratum].mean(axis=0), 0, atol=1e-9)
    alone = np.where(np.arange(40) == 39, 3, strata)  # a stratum without training patients
    assert np.isfinite(image_block(features, 3, alone)(train, 20)).all()


def test_folds_spread_every_stratum_and_its_events() -> None:
    strata = np.repeat([0, 1, 2, 3], [40, 20, 11, 2])
    events = np.zeros(73, dtype=bool)
    events[:10], events[40:50], events[60:62] = True, True, True
    folds = assign_folds(events, folds=5, seed=0, strata=strata)
    for rows in (strata == 0, strata == 1, strata == 2):
        counts = np.bincount(folds[rows], minlength=5)
        assert counts.max() - counts.min() <= 2
    for stratum in (0, 1):
        assert (np.bincount(folds[events & (strata == stratum)]) == 2).all()
    tiny = assign_folds(events[:6], folds=5, seed=0, strata=np.arange(6))
    assert len(set(tiny.tolist())) == 5


def _by_hand(times: np.ndarray, events: np.ndarray, risks: np.ndarray, cells: np.ndarray) -> float:
    top = bottom = 0.0
    for i in np.flatnonzero(events):
        for j in range(len(times)):
            later = times[j] > times[i] or (times[j] == times[i] and not events[j])
            if cells[i] == cells[j] and later and i != j:
                top += 0.5 if risks[i] == risks[j] else float(risks[i] > risks[j])
                bottom += 1
    return top / bottom


def _risk_scores(n: int = 60) -> RiskScores:
    features, times, events = cohort(n=n, ties=True)
    strata, folds = _strata(n), np.arange(n) % 2
    grid = np.array([2.0, 3.0, 4.0])
    curve = censoring(times, events)
    return RiskScores(
        times=times,
        events=events,
        risks=np.round(features[:, 0], 1),
        folds=folds,
        strata=strata,
        censoring=np.where(times < times.max(), curve(times), 0.0),
        reach=np.full(n, times.max()),
        survival=np.tile([0.8, 0.7, 0.6], (n, 1)),
        censoring_at=np.tile(curve(grid), (n, 1)),
        grid=grid,
    )


def test_pairs_stay_inside_their_stratum_and_fold() -> None:
    risk_scores = _risk_scores()
    found = concordance(risk_scores, np.ones((1, 60)))["c_index"][0]
    cells = risk_scores.folds + 10 * risk_scores.strata
    assert found == pytest.approx(
        _by_hand(risk_scores.times, risk_scores.events, risk_scores.risks, cells), abs=1e-12
    )
    weights = np.random.default_rng(0).poisson(1.0, size=(5, 60)).astype(float)
    shifted = RiskScores(**{**risk_scores.__dict__, "risks": risk_scores.risks + 50 * cells})
    horizons = np.array([2.0, 4.0])
    first, second = (survival_metrics(each, weights, horizons) for each in (risk_scores, shifted))
    for metric, replicates in first.items():
        np.testing.assert_allclose(replicates, second[metric], atol=1e-12, err_msg=metric)


def test_a_hand_sized_concordance_within_strata() -> None:
    """Pooled 4 of 6 pairs agree; inside the two strata one of two."""
    risk_scores = _risk_scores(4)
    four = RiskScores(
        **{
            **risk_scores.__dict__,
            "times": np.array([1.0, 2.0, 3.0, 4.0]),
            "events": np.ones(4, dtype=bool),
            "risks": np.array([9.0, 8.0, 1.0, 2.0]),
            "folds": np.zeros(4, dtype=np.int64),
            "strata": np.array([0, 0, 1, 1]),
        }
    )
    assert concordance(four, np.ones((1, 4)))["c_index"][0] == 0.5
    pooled = RiskScores(**{**four.__dict__, "strata": np.zeros(4, dtype=np.int64)})
    assert concordance(pooled, np.ones((1, 4)))["c_index"][0] == pytest.approx(5 / 6)


def test_strata_whose_follow_up_ends_before_a_time_are_left_out_of_it() -> None:
    risk_scores = _risk_scores()
    ones, horizons = np.ones((1, 60)), np.array([2.0, 4.0])
    short = RiskScores(
        **{**risk_scores.__dict__, "reach": np.where(risk_scores.strata == 0, 3.5, risk_scores.reach)}
    )
    found = survival_metrics(short, ones, horizons)
    others = risk_scores.take(risk_scores.strata != 0)
    expected = survival_metrics(others, np.ones((1, len(others.times))), horizons)
    assert found["auc_at_4"][0] == pytest.approx(expected["auc_at_4"][0])
    assert found["integrated_brier"][0] == pytest.approx(expected["integrated_brier"][0])
    everybody = survival_metrics(risk_scores, ones, horizons)
    assert found["auc_at_2"][0] == everybody["auc_at_2"][0] != expected["auc_at_2"][0]


def test_the_stratified_log_rank_test_is_that_of_statsmodels() -> None:
    duration = pytest.importorskip("statsmodels.duration.survfunc")
    features, times, events = cohort(n=90, ties=True)
    strata, first = _strata(90), features[:, 0] + _strata(90) > 0.5
    _, oracle = duration.survdiff(times, events.astype(int), first.astype(int), strata=strata)
    assert log_rank(times, events, first, strata) == pytest.approx(oracle, rel=1e-9)
    assert log_rank(times, events, first) != pytest.approx(oracle, rel=0.01)


def test_risk_groups_have_every_stratums_share() -> None:
    risk_scores = _risk_scores()
    higher = split_at_median(
        RiskScores(**{**risk_scores.__dict__, "risks": risk_scores.risks + 50.0 * risk_scores.strata})
    )
    np.testing.assert_array_equal(higher, split_at_median(risk_scores))
    curves = risk_group_curves(risk_scores)
    assert curves[0]["p_value"] == log_rank(risk_scores.times, risk_scores.events, higher, risk_scores.strata)


def write_two_projects(folder: Path, patients: int = 240, *, sites: int = 10) -> Path:
    """`p.csv`: images that know nothing but the project; hazards of 1/10 in the one, 1/60 in the other."""
    random = np.random.default_rng(4)
    with (folder / "p.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("image", "person", "months", "died", "project", "age", "site"))
        for number in range(patients):
            project = number % 2
            died, left = random.exponential((10, 60)[project]), random.exponential(40)
            pixels = np.array([(200, 80, 80), (80, 80, 200)])[project] + random.integers(-30, 31, (6, 6, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
            name, site = ("LUAD", "GBM")[project], f"{project}{random.integers(sites)}"
            age = 50 + 20 * project + random.normal(scale=3)
            outcome = f"{min(died, left):.3f}", int(died <= left)
            writer.writerow((f"{number}.png", f"name-of-{number}", *outcome, name, f"{age:.0f}", site))
    return folder


def _suite(**changes: Any) -> SuiteConfig:
    task = {
        "name": "death",
        "kind": "survival",
        "table": "p",
        "time": "months",
        "event": "died",
        "repeats": 2,
        "inner_folds": 2,
        "penalties": [0.01, 1.0],
        **changes,
    }
    tables = {"p": {"table": "p.csv", "patient": "person"}}
    content = {"name": "projects", "tables": tables, "tasks": [task], "bootstrap": {"resamples": 50}}
    return SuiteConfig.model_validate(content)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_projects(tmp_path_factory.mktemp("projects"))


def _evaluate(world: Path, folder: Path, *, teachers: str = "ab", **changes: Any) -> Results:
    models = [ColourModel(), *(ColourModel(name, "teacher", noise=0.1, seed=1) for name in teachers)]
    return evaluate(models, _suite(**changes), base=world, folder=folder, progress=SilentProgress())


@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_knowing_the_project_is_a_discovery_when_pooled_alone(
    projects: Path, tmp_path: Path, head: str
) -> None:
    pooled = _evaluate(projects, tmp_path / "pooled", teachers="", head=head, repeats=1, penalties=[0.01])
    assert pooled.main("student", "death").value > 0.65
    found = _evaluate(projects, tmp_path / "strata", head=head, clinical=["age"], strata="project")
    for name in ("student", TEACHER_MEAN, "clinical only"):
        values = {row.metric: row.value for row in found.of(model=name, task="death")}
        for metric in ("c_index", "uno_c", "mean_auc"):
            assert 0.38 < values[metric] < 0.62, (name, metric)
    assert found.tasks[0].facts["strata"] == 2
    assert not any("strata" in warning or "stratum" in warning for warning in found.warnings)
    dump = read_predictions(tmp_path / "strata" / "predictions" / "death" / "student.parquet")
    assert isinstance(dump, SurvivalPredictions)
    assert set(dump.strata.tolist()) == {0, 1}
    assert dump.survival[dump.strata == 0].mean() > dump.survival[dump.strata == 1].mean() + 0.2  # GBM first


def _task(world: Path, **changes: Any) -> Survival:
    config = _suite(**changes)
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    task = build_task(config.tasks[0], parts, SampleNames(None, examples=True))
    assert isinstance(task, Survival)
    return task


def test_censoring_is_that_of_the_training_patients_of_the_stratum(projects: Path) -> None:
    task = _task(projects, strata="project")
    cohort, plan = task.cohort, task.plan
    tested = (plan.folds[1] == 2) & (cohort.strata == 1)
    train = (plan.folds[1] != 2) & (cohort.strata == 1)
    curve = censoring(cohort.times[train], cohort.events[train])
    end = cohort.times[train].max()
    np.testing.assert_array_equal(plan.reach[1, tested], end)
    inside = tested & (cohort.times < end)
    np.testing.assert_allclose(plan.censoring[1, inside], curve(cohort.times[inside]))
    np.testing.assert_allclose(plan.censoring_at[1, tested][0], curve(plan.grid))
    assert plan.strangers == 0


def test_a_stratum_of_one_site_is_judged_and_told(tmp_path: Path) -> None:
    world = write_two_projects(tmp_path, 40, sites=1)
    found = _evaluate(world, tmp_path / "out", teachers="", strata="project", site="site", folds=2)
    assert any("40 patients have a stratum without training patients" in line for line in found.warnings)
    assert found.main("student", "death").value is not None


def test_a_blank_stratum_is_refused_by_row(tmp_path: Path) -> None:
    world = write_two_projects(tmp_path, 6)
    path = world / "p.csv"
    path.write_text(path.read_text().replace("GBM", "", 1))
    with pytest.raises(TableError, match=r"`project` must not be blank; it is blank in row 2"):
        _task(world, strata="project").check()


def test_the_mean_of_models_compares_inside_strata(projects: Path) -> None:
    """What a member says of a whole stratum must not drown what it says inside."""
    task = _task(projects, strata="project", repeats=1)
    one = task.baselines()["random features"]
    shifted = replace(one, risks=one.risks + 1000 * one.strata)
    together = task.combine([], [one, shifted])
    np.testing.assert_allclose(together.risks, task.combine([], [one, one]).risks, atol=1e-9)
    fold = together.folds == 0
    for stratum in (0, 1):
        assert together.risks[fold & (one.strata == stratum)].mean() == pytest.approx(0, abs=1e-9)
    assert together.risks[fold].std() == pytest.approx(1)


def test_heads_learn_with_sites_and_strata(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(projects, strata="project", site="site", repeats=1, folds=2)
    seen: list[Outcomes] = []
    whole = survival_task.out_of_fold

    def watched(block: Any, outcomes: Outcomes, **more: Any) -> OutOfFold:
        seen.append(outcomes)
        return whole(block, outcomes, **more)

    monkeypatch.setattr(survival_task, "out_of_fold", watched)
    _ = task.baselines()["random features"]
    assert seen[0].sites == task.cohort.sites
    np.testing.assert_array_equal(seen[0].strata, task.cohort.strata)


@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_nasty_strata_have_no_error(tmp_path: Path, head: str) -> None:
    """A stratum a patient leaves nothing to compare; one without events leaves nothing to learn."""
    world = write_two_projects(tmp_path, 24)
    path = world / "p.csv"
    lines = path.read_text().splitlines()
    quiet = [line if "LUAD" in line else line.replace(",1,GBM", ",0,GBM") for line in lines[1:]]
    own = [f"{line},{number}" for number, line in enumerate(quiet)]
    path.write_text("\n".join([f"{lines[0]},alone", *own]) + "\n")
    alone = _evaluate(world, tmp_path / "alone", head=head, strata="alone", repeats=1)
    assert alone.main("student", "death").value is None
    censored = _evaluate(world, tmp_path / "censored", head=head, strata="project", repeats=1)
    assert censored.main("student", "death").value is not None
    assert "NaN" not in (tmp_path / "censored" / "results.json").read_text()
