"""Groups, tests between models and exports, through the whole of an evaluation on coloured images."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from colour_world import ColourModel, suite, write_world
from statsmodels.stats.multitest import multipletests

from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.progress import SilentProgress

GROUPS: dict[str, Any] = {"sex": {}, "age": {"bands": [18, 65]}, "modality": {}}


@pytest.fixture(scope="module")
def grouped_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured images of 48 patients, whose sex and age are known but for some."""
    folder = write_world(tmp_path_factory.mktemp("grouped"), patients=48)
    with (folder / "table.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        patient = int(row["patient"].removeprefix("name-of-"))
        row["sex"] = ("female", "male", "")[patient // 4 % 3]
        row["age"] = "" if patient % 9 == 0 else str(patient * 2)
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _suite(**more: Any) -> SuiteConfig:
    return suite(**({"groups": GROUPS, "min_group_size": 4} | more))


def _evaluate(world: Path, folder: Path, config: SuiteConfig, models: list[Any] | None = None) -> Results:
    found = models or [
        ColourModel("first", "baseline", noise=0.3),
        ColourModel("second", "baseline", noise=0.5, seed=1),
        ColourModel("third", "teacher", noise=1.0, seed=2, pretraining_data=("CheXpert",)),
        ColourModel("fourth", "teacher", noise=0.9, seed=3),
    ]
    return evaluate(found, config, base=world, folder=folder, progress=SilentProgress())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def results(grouped_world: Path, folder: Path) -> Results:
    content = _suite().model_dump(mode="json")
    content["tasks"][0]["dataset"] = "CheXpert"
    return _evaluate(grouped_world, folder, SuiteConfig.model_validate(content))


def test_every_task_and_model_has_its_groups(results: Results) -> None:
    for task in results.tasks:
        for model in results.models:
            rows = [row for row in results.groups if (row.model, row.task) == (model.name, task.name)]
            labels = {name: [row.label for row in rows if row.group == name] for name in GROUPS}
            assert labels["sex"] == ["female", "male", ""]
            assert labels["age"] == ["below 18", "18 to <65", "65 and above", ""]
            assert labels["modality"] == ["ct", "xray"]
            gaps = [gap for gap in results.gaps if (gap.model, gap.task) == (model.name, task.name)]
            assert [gap.group for gap in gaps] == list(GROUPS)


def test_the_group_of_a_modality_is_the_modality_of_the_results(results: Results) -> None:
    for task in results.tasks:
        for row in results.of(task=task.name):
            if row.modality:
                wanted = (row.model, row.task, "modality", row.modality)
                group = next(
                    each for each in results.groups
                    if (each.model, each.task, each.group, each.label) == wanted
                )  # fmt: skip
                assert (group.value, group.low, group.high) == (row.value, row.low, row.high)
                assert (group.n, group.patients) == (row.n, row.patients)


def test_groups_are_in_the_dump_and_recomputable(results: Results, folder: Path) -> None:
    dump = read_predictions(folder / "predictions" / "probe" / "third.parquet")
    assert set(dump.groups["age"]) == {"", "below 18", "18 to <65", "65 and above"}
    young = (np.array(dump.groups["age"]) == "18 to <65") & (np.array(dump.settings) == "")
    right = dump.scores.argmax(axis=1) == dump.truth
    recalls = [right[young & (dump.truth == each)].mean() for each in np.unique(dump.truth[young])]
    row = next(
        row for row in results.groups
        if (row.model, row.task, row.label) == ("third", "probe", "18 to <65") and row.main
    )  # fmt: skip
    assert row.value == pytest.approx(np.mean(recalls))


def test_other_groups_make_no_prediction_again(grouped_world: Path, tmp_path: Path) -> None:
    models = [ColourModel("a"), ColourModel("b", "teacher", noise=1.0)]
    first = _evaluate(grouped_world, tmp_path, _suite(groups={}), models)
    assert (first.groups, first.gaps) == ((), ())
    seen = [model.images_seen for model in models]
    calls = {path: read_predictions(path) for path in (tmp_path / "predictions").rglob("*.parquet")}
    second = _evaluate(grouped_world, tmp_path, _suite(), models)
    assert [model.images_seen for model in models] == seen
    for path, before in calls.items():
        after = read_predictions(path)
        assert (before.groups, set(after.groups)) == ({}, set(GROUPS))
        np.testing.assert_array_equal(before.rows, after.rows)
    assert first.results == second.results


def test_a_task_may_stay_out_or_have_its_own() -> None:
    content = _suite().model_dump(mode="json")
    content["tasks"][0]["groups"] = {}
    content["tasks"][1]["groups"] = ["sex", {"age": {"bands": [40]}}]
    content["tasks"][2]["groups"] = None
    found = SuiteConfig.model_validate(content).tasks
    assert found[0].groups == {}
    assert {name: group.bands for name, group in found[1].groups.items()} == {"sex": (), "age": (40,)}
    assert list(found[2].groups) == list(GROUPS)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"sex": {"bands": [1]}}, "must hold numbers"),
        (["patient"], "must not name single patients"),
        (["nothing"], "nothing"),
    ],
)
def test_refused_columns(grouped_world: Path, groups: Any, said: str) -> None:
    config = _suite(groups=groups)
    with pytest.raises((ConfigError, TableError), match=said):
        check_tasks(config, SuiteTables(config, base=grouped_world))


@pytest.mark.parametrize("bands", [[3, 1], [1, 1], [float("nan")]])
def test_refused_bands(bands: list[float]) -> None:
    with pytest.raises(ValueError, match=r"bands|finite"):
        _suite(groups={"age": {"bands": bands}})


def test_the_first_model_is_compared_where_there_is_no_student(results: Results) -> None:
    assert {row.model for row in results.differences} == {"first"}
    assert {row.other for row in results.differences} == {"second", "third", "fourth", TEACHER_MEAN}
    assert [row.other for row in results.comparisons] == ["second", "third", "fourth", TEACHER_MEAN]


def test_p_values_and_their_correction(results: Results) -> None:
    tasks = [row for row in results.differences if row.task != MEAN_TASK]
    means = [row for row in results.differences if row.task == MEAN_TASK]
    for family in (tasks, means):
        values = [row.p_value for row in family]
        assert all(0 < value <= 1 for value in values)
        assert [row.p_holm for row in family] == pytest.approx(multipletests(values, method="holm")[1])
    assert all(row.p_mcnemar is None for row in tasks)  # two images a patient
    assert any("no corrected p value" in warning for warning in results.warnings)


def test_a_difference_from_a_model_that_has_seen_the_data_says_so(results: Results) -> None:
    flagged = {(row.other, row.task) for row in results.differences if row.seen}
    wanted = {(other, task) for other in ("third", TEACHER_MEAN) for task in ("zero", MEAN_TASK)}
    assert flagged == wanted
    assert {row.other: row.seen_tasks for row in results.comparisons}["third"] == ("zero",)


def test_tallies_over_tasks(results: Results) -> None:
    for row in results.comparisons:
        pairs = [each for each in results.differences if each.other == row.other and each.task != MEAN_TASK]
        assert row.tasks == row.wins + row.ties + row.losses == len(pairs) == 4
        assert row.wins == sum(pair.low > 0 for pair in pairs)
        assert row.raw_losses == sum(pair.value < 0 for pair in pairs)
        assert row.mean_difference == pytest.approx(np.mean([pair.value for pair in pairs]))
        assert row.p_value is None
        assert "below 6 tasks" in row.note
    assert results.ranking.p_value is None
    assert sum(results.ranking.mean_ranks.values()) == pytest.approx(10)
    for task in ("zero", MEAN_TASK):
        assert sum(place.first for place in results.places if place.task == task) == pytest.approx(1)


def test_mcnemar_where_every_patient_has_one_image(tmp_path: Path) -> None:
    world = write_world(tmp_path, patients=40, per_patient=1)
    tasks = suite().model_dump(mode="json")["tasks"]
    config = suite(tasks=[tasks[0], tasks[3]])
    models = [ColourModel(noise=0.2), ColourModel("b", "teacher", noise=1.0, seed=1)]
    found = _evaluate(world, tmp_path / "out", config, models)
    zero, search = found.difference("student", "b", "zero"), found.difference("student", "b", "search")
    assert 0 < zero.p_mcnemar <= 1
    assert search.p_mcnemar is None


def test_every_number_says_what_it_rests_on(results: Results) -> None:
    for row in (*results.results, *results.groups, *results.gaps):
        if row.value is not None:
            assert row.n >= row.patients > 0
            assert row.seed == 42
            assert row.library.startswith("meddistill ")
    for other in (*results.differences, *results.comparisons):
        assert other.seed == 42
        assert "scipy " in other.library
    probe = results.main("first", "probe")
    assert "scikit-learn " in probe.library
    assert "scikit-learn " not in results.main("first", "zero").library


def test_pandas_reads_the_same_numbers(results: Results, folder: Path) -> None:
    whole = [*results.results, *results.groups, *results.gaps]
    for table in (pd.read_csv(folder / "results.csv"), pd.read_parquet(folder / "results.parquet")):
        assert len(table) == len(whole)
        for name in ("value", "low", "high"):
            expected = [getattr(row, name) for row in whole]
            np.testing.assert_array_equal(table[name], np.array(expected, dtype=float))
        assert table["n"].tolist() == [row.n for row in whole]
        assert table["model"].tolist() == [row.model for row in whole]
        flagged = table[table["seen"].fillna("") != ""]
        assert set(flagged["model"]) == {"third", TEACHER_MEAN}
        assert set(flagged["task"]) == {"zero", MEAN_TASK}
        gaps = table[table["metric"].str.startswith("gap of ")]
        assert len(gaps) == len(results.gaps)
    pairs = pd.read_csv(folder / "differences.csv")
    np.testing.assert_array_equal(pairs["p_holm"], [row.p_holm for row in results.differences])
    tallies = pd.read_csv(folder / "comparisons.csv")
    assert tallies["wins"].tolist() == [row.wins for row in results.comparisons]


def test_results_come_back_from_disk(results: Results, folder: Path) -> None:
    assert Results.load(folder) == results
    assert "NaN" not in (folder / "results.json").read_text()
    assert json.loads((folder / "results.json").read_text())["ranking"]["alpha"] == 0.05


@pytest.mark.usefixtures("results")
def test_groups_do_not_name_patients(folder: Path) -> None:
    SampleNames(folder, examples=False)
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"name-of-" not in path.read_bytes(), path
