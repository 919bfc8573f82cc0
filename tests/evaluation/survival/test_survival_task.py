"""Survival from images to results, on patients whose images say something of their hazard."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel
from survival_world import suite, write_patients

from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.survival.fitting import Outcomes, out_of_fold
from meddistill.evaluation.tasks.survival.predictions import SurvivalPredictions
from meddistill.evaluation.tasks.survival.task import CLINICAL_ONLY, RANDOM_FEATURES, WITH_CLINICAL, Survival
from meddistill.progress import SilentProgress

BASELINES = (CLINICAL_ONLY, RANDOM_FEATURES)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patients(tmp_path_factory.mktemp("patients"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


def _models() -> list[ColourModel]:
    teachers = [ColourModel("sharp", "teacher", seed=1), ColourModel("blurred", "teacher", noise=0.5, seed=2)]
    return [ColourModel(), *teachers]


def _evaluate(world: Path, folder: Path, config: SuiteConfig, models: list[Any] | None = None) -> Results:
    models = _models() if models is None else models
    return evaluate(models, config, base=world, folder=folder, progress=SilentProgress())


@pytest.fixture(scope="module")
def results(world: Path, folder: Path) -> Results:
    return _evaluate(world, folder, suite())


def _task(world: Path, **changes: Any) -> Survival:
    config = suite(**changes)
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    task = build_task(config.tasks[0], parts, SampleNames(None, examples=True))
    assert isinstance(task, Survival)
    return task


def test_images_that_tell_the_hazard_beat_random_features(results: Results) -> None:
    values = {name: results.main(name, "death").value for name in ("student", *BASELINES)}
    assert values["student"] > 0.7
    assert abs(values[RANDOM_FEATURES] - 0.5) < 0.2
    assert results.main("student", "death").low > values[RANDOM_FEATURES]
    assert results.difference("student", RANDOM_FEATURES, "death").low > 0


def test_every_number_has_its_rows(results: Results) -> None:
    for name in ("student", "sharp", "blurred", TEACHER_MEAN, *BASELINES):
        rows = {
            (row.metric, row.setting): row for row in results.of(model=name, task="death") if not row.modality
        }
        settings = {setting for _, setting in rows}
        assert settings == ({""} if name in BASELINES else {"", WITH_CLINICAL})
        metrics = {metric for metric, setting in rows if not setting}
        assert {"c_index", "uno_c", "mean_auc", "integrated_brier"} < metrics
        assert sum(metric.startswith("auc_at_") for metric in metrics) == 3
        main = rows["c_index", ""]
        assert (main.n, main.patients, main.seeds, main.main) == (40, 40, 2, True)
        assert main.spread is not None
        assert main.low < main.value < main.high
    assert {row.modality for row in results.of(model="student", task="death")} == {"", "ct", "mri"}


def test_baselines_are_judged_on_their_task_alone(results: Results) -> None:
    for name in BASELINES:
        facts = next(model for model in results.models if model.name == name)
        assert (facts.role, facts.tasks) == ("baseline", ("death",))
        assert results.main(name, MEAN_TASK) is None
    assert [model.tasks for model in results.models if model.name == "student"] == [()]


def test_facts_and_warnings(results: Results) -> None:
    facts = results.tasks[0].facts
    assert (facts["cohort"], facts["folds"], facts["unit"], facts["chance"]) == (40, 4, "months", 0.5)
    assert len(facts["horizons"]) == 3
    assert results.tasks[0].n == 80
    few = facts["events"] < 20
    assert any("a C-index is uncertain" in warning for warning in results.warnings) is few


def test_a_group_of_few_events_says_so(folder: Path) -> None:
    path = next((folder / "predictions" / "death").glob("student.parquet"))
    dump = read_predictions(path)
    assert isinstance(dump, SurvivalPredictions)
    died = np.unique(dump.rows[dump.events])
    assert dump.missing_in(np.ones(len(dump.rows), dtype=bool)) == ""
    assert dump.missing_in(np.isin(dump.rows, died[:1])) == "1 event: a C-index of few pairs"
    assert dump.missing_in(~dump.events) == "0 events: a C-index of few pairs"


def test_curves_of_the_risk_groups(results: Results) -> None:
    curves = [each for each in results.exhibits if each.model == "student"]
    assert [each.group for each in curves] == ["lower risk", "higher risk"]
    lower, higher = curves
    assert lower.p_value == higher.p_value
    assert lower.p_value < 0.05
    assert lower.at_risk[0] + higher.at_risk[0] == 40
    for each in curves:
        assert (each.times[0], each.survival[0]) == (0, 1)
        lengths = {len(column) for column in (each.times, each.survival, each.low, each.high, each.at_risk)}
        assert len(lengths) == 1
        assert (np.diff(each.survival) <= 0).all()
    assert lower.survival[-1] > higher.survival[-1]
    assert {each.model for each in results.exhibits} == {
        "student", "sharp", "blurred", TEACHER_MEAN, *BASELINES
    }  # fmt: skip


@pytest.mark.usefixtures("results")
def test_a_dump_gives_the_same_numbers_and_names_nobody(folder: Path, tmp_path: Path) -> None:
    for name in ("student", "clinical_only-*"):
        path = next((folder / "predictions" / "death").glob(f"{name}.parquet"))
        dump = read_predictions(path)
        assert isinstance(dump, SurvivalPredictions)
        write_predictions(dump, tmp_path / "again.parquet", fingerprint="f")
        again = read_predictions(tmp_path / "again.parquet", fingerprint="f")
        for field, value in vars(dump).items():
            np.testing.assert_array_equal(vars(again)[field], value)
        assert (dump.rows >= 1).all()
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"name-of-" not in path.read_bytes(), path


def test_nothing_is_predicted_twice(world: Path, folder: Path, results: Results) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "predictions").rglob("*.parquet")}
    assert len(before) == 6
    assert _evaluate(world, folder, suite()) == results
    assert {path: path.stat().st_mtime_ns for path in (folder / "predictions").rglob("*.parquet")} == before


@pytest.mark.usefixtures("results")
def test_the_teacher_mean_standardizes_risks_within_folds(folder: Path) -> None:
    def dump(name: str) -> SurvivalPredictions:
        found = read_predictions(next((folder / "predictions" / "death").glob(f"{name}.parquet")))
        assert isinstance(found, SurvivalPredictions)
        return found

    mean, members = dump("teacher_mean-*"), [dump("sharp"), dump("blurred")]
    np.testing.assert_allclose(mean.survival, (members[0].survival + members[1].survival) / 2)
    rows = (mean.seeds == 1) & (mean.folds == 2) & (np.array(mean.settings) == WITH_CLINICAL)
    z = [(each.risks[rows] - each.risks[rows].mean()) / each.risks[rows].std() for each in members]
    np.testing.assert_allclose(mean.risks[rows], (z[0] + z[1]) / 2)


@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_a_patients_own_outcome_does_not_move_its_risk(world: Path, head: str) -> None:
    """Nor do embeddings of the patients of its fold, for nothing of a test fold is learnt from."""
    task = _task(world, head=head, repeats=1)
    cohort, plan = task.cohort, task.plan
    features = np.random.default_rng(0).normal(size=(len(cohort), 6))

    def block(train: np.ndarray, events: int) -> np.ndarray:
        return (features - features[train].mean(axis=0)) / 3

    known = {"folds": plan.folds[0], "grid": plan.grid, "config": task.config}
    outcomes = Outcomes(times=cohort.times, events=cohort.events, strata=cohort.strata)
    before = out_of_fold(block, outcomes, **known)
    tested = plan.folds[0] == 1
    times = np.where(tested, cohort.times[::-1] + 1, cohort.times)
    events = np.where(tested, ~cohort.events, cohort.events)
    after = out_of_fold(block, replace(outcomes, times=times, events=events), **known)
    np.testing.assert_array_equal(after.risks[tested], before.risks[tested])
    np.testing.assert_array_equal(after.survival[tested], before.survival[tested])
    assert not np.array_equal(after.risks[~tested], before.risks[~tested])


def test_censoring_weights_are_those_of_the_training_patients(world: Path) -> None:
    nonparametric = pytest.importorskip("sksurv.nonparametric")
    util = pytest.importorskip("sksurv.util")
    task = _task(world)
    cohort, plan = task.cohort, task.plan
    for division, folds in enumerate(plan.folds):
        for fold in range(4):
            tested, train = folds == fold, folds != fold
            oracle = nonparametric.CensoringDistributionEstimator()
            oracle.fit(util.Surv.from_arrays(cohort.events[train], cohort.times[train]))
            inside = tested & (cohort.times < cohort.times[train].max())
            mine = plan.censoring[division, inside]
            np.testing.assert_allclose(mine, oracle.predict_proba(cohort.times[inside]))
            assert not plan.censoring[division, tested & ~inside].any()
            np.testing.assert_allclose(
                plan.censoring_at[division, tested][0], oracle.predict_proba(plan.grid)
            )


def test_sites_stay_in_one_fold(world: Path) -> None:
    task = _task(world, site="site", folds=3)
    sites = np.array(task.cohort.sites)
    for folds in task.plan.folds:
        assert len(set(folds)) == 3
        assert all(len(set(folds[sites == site])) == 1 for site in set(sites))
    assert task.facts()["sites"] == 6


@pytest.mark.parametrize("changes", [{"head": "discrete"}, {"pooling": "max", "ties": "breslow"}])
def test_other_heads_find_the_signal_too(world: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    found = _evaluate(world, tmp_path, suite(**changes, repeats=1, clinical=[]), [ColourModel()])
    assert found.main("student", "death").value > 0.65
    assert {model.name for model in found.models} == {"student", RANDOM_FEATURES}


def _rewritten(world: Path, folder: Path, change: Any, *, patients: int = 12) -> Path:
    """A small world with a changed table of patients; `change` gets its rows."""
    write_patients(folder, patients=patients, images=1)
    lines = (folder / "patients.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    rows = change(rows)
    (folder / "patients.csv").write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")
    return folder


CASES = {
    "all censored": lambda rows: [[name, time, "0", *rest] for name, time, _, *rest in rows],
    "all seen": lambda rows: [[name, time, "1", *rest] for name, time, _, *rest in rows],
    "one event": lambda rows: [[r[0], r[1], str(int(i == 0)), *r[3:]] for i, r in enumerate(rows)],
    "equal times": lambda rows: [[name, "5", event, *rest] for name, _, event, *rest in rows],
    "times of zero": lambda rows: [[name, "0", event, *rest] for name, _, event, *rest in rows],
    "no clinical values": lambda rows: [[*row[:3], "", "", row[5]] for row in rows],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_nasty_cohorts_have_no_error(world: Path, tmp_path: Path, case: str, head: str) -> None:
    small = _rewritten(world, tmp_path, CASES[case])
    config = suite(head=head, repeats=1, penalties=[0.1, 1.0], folds=3)
    found = _evaluate(small, tmp_path / "out", config, [ColourModel()])
    main = found.main("student", "death")
    assert (main.value is None) is (case == "all censored")
    assert main.note == ("not defined on these rows" if case == "all censored" else "")
    assert "NaN" not in (tmp_path / "out" / "results.json").read_text()


@pytest.mark.parametrize("patients", [1, 2])
def test_one_or_two_patients_are_no_error(tmp_path: Path, patients: int) -> None:
    world = write_patients(tmp_path, patients=patients)
    found = _evaluate(world, tmp_path / "out", suite(), [ColourModel()])
    assert found.main("student", "death").value is None
    assert found.tasks[0].facts["cohort"] == patients


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (1, "soon", "`months` must be a number from 0; it is something else in row"),
        (1, "-1", "`months` must be a number from 0"),
        (1, "nan", "`months` must be a number from 0"),
        (2, "2", "`died` must be 1 "),
        (2, "", "`died` must be 1 "),
        (5, "", "`site` must not be blank"),
    ],
)
def test_refused_cells_are_named_by_row(tmp_path: Path, column: int, value: str, words: str) -> None:
    def change(rows: list[list[str]]) -> list[list[str]]:
        rows[3][column] = value
        return rows

    small = _rewritten(tmp_path, tmp_path, change)
    with pytest.raises(TableError, match=words) as caught:
        _task(small, site="site").check()
    assert "row 4" in str(caught.value)
    assert "name-of" not in str(caught.value)


def test_rows_of_a_patient_must_agree(tmp_path: Path) -> None:
    write_patients(tmp_path, patients=6)
    lines = (tmp_path / "slices.csv").read_text().splitlines()
    both = [f"{line},{number}" for number, line in enumerate(lines)]
    both[0] = f"{lines[0]},months"
    (tmp_path / "slices.csv").write_text("\n".join(both) + "\n")
    with pytest.raises(TableError, match=r"`months` must be the same in all rows of a patient.*rows 2, 4"):
        _task(tmp_path).check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizons": [1, 9000]}, "`horizons` must lie before .* months"),
        ({"site": "months", "where": {"sex": "f"}, "clinical": []}, None),
        ({"where": {"sex": "f"}}, None),  # a clinical column too
        ({"site": "one_site"}, "two sites at least"),
    ],
)
def test_refused_plans(tmp_path: Path, changes: dict[str, Any], words: str | None) -> None:
    write_patients(tmp_path, patients=12)
    lines = (tmp_path / "patients.csv").read_text().splitlines()
    (tmp_path / "patients.csv").write_text(
        "\n".join([f"{lines[0]},one_site", *(f"{each},here" for each in lines[1:])])
    )
    task = _task(tmp_path, **changes)
    if words is None:
        task.check()
        return
    with pytest.raises(ConfigError, match=words):
        task.check()


@pytest.mark.parametrize("changes", [{"horizons": [3, 3]}, {"clinical": ["age", "age"]}, {"penalties": []}])
def test_refused_configs(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"horizons|clinical|penalties"):
        suite(**changes)


def test_the_config_names_its_table_and_columns() -> None:
    (task,) = suite(site="site", where={"kept": "1"}).tasks
    assert task.tables() == {"table": "slices"}
    assert task.columns() == {"months", "died", "age", "sex", "site", "kept"}


def test_an_outcome_is_no_clinical_column() -> None:
    for column in ("months", "died"):
        with pytest.raises(ValueError, match=f"must not hold the outcome itself; got {column}"):
            suite(clinical=["age", column])


def test_fewer_events_than_folds_are_refused(tmp_path: Path) -> None:
    folder = write_patients(tmp_path, patients=12)
    table = folder / "patients.csv"
    header, *lines = table.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for number, row in enumerate(rows):
        row[2] = str(int(number < 1))
    table.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    config = suite()
    with pytest.raises(ConfigError, match=r"no more than the events, one a fold; got 1 event among 12"):
        check_tasks(config, SuiteTables(config, base=folder))


def test_a_model_must_not_have_the_name_of_a_baseline(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name of a baseline of task .*; got random features"):
        _evaluate(world, tmp_path, suite(repeats=1), [ColourModel(RANDOM_FEATURES)])


def test_real_gliomas(real_data: Path, tmp_path: Path) -> None:
    """Mean colours of MRI slices against death; small, so only that all of it holds together."""
    table = {
        "table": "survival_images.csv",
        "patient": "patient_id",
        "patients": {"table": "survival.csv", "patient": "patient_id"},
        "where": {"slice_index": ["10", "11", "12"]},
    }
    task = {
        "name": "glioma",
        "kind": "survival",
        "table": "slices",
        "time": "time_months",
        "clinical": ["age", "sex", "grade", "histology"],
        "repeats": 1,
    }
    content = {"name": "real", "tables": {"slices": table}, "tasks": [task], "bootstrap": {"resamples": 50}}
    found = _evaluate(real_data, tmp_path, SuiteConfig.model_validate(content), [ColourModel()])
    facts = found.tasks[0].facts
    assert 30 < facts["cohort"] <= 55
    assert facts["events"] <= 16
    assert found.main(CLINICAL_ONLY, "glioma").value > 0.6  # age and grade are known to tell
    assert 0 <= found.main("student", "glioma").value <= 1
