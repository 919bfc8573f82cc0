"""The whole of an evaluation on coloured images, with models that know colours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel, suite, write_world
from scipy import stats

from meddistill.errors import ConfigError, UserError
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.progress import SilentProgress

TASKS = ("zero", "probe", "near", "search")


def _models() -> list[ColourModel]:
    return [
        ColourModel(),
        ColourModel("sharp", "teacher", seed=1),
        ColourModel("blurred", "teacher", noise=0.6, seed=2),
        ColourModel("blind to words", "teacher", seed=3, has_text=False),
        ColourModel("before", "baseline", noise=1.0, seed=4),
    ]


def _evaluate(world: Path, folder: Path, models: list[Any] | None = None, **more: Any) -> Results:
    config = more.pop("suite", suite())
    models = _models() if models is None else models
    return evaluate(models, config, base=world, folder=folder, progress=SilentProgress(), **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def results(world: Path, folder: Path) -> Results:
    return _evaluate(world, folder)


def test_every_model_has_a_row_for_every_task(results: Results) -> None:
    for model in ("student", "sharp", "blurred", "blind to words", "before", TEACHER_MEAN):
        for task in (*TASKS, MEAN_TASK):
            row = results.main(model, task)
            assert row is not None
            applicable = model != "blind to words" or task in ("probe", "near")
            assert (row.value is not None) is applicable, (model, task)
            assert ("no text tower" in row.note) is not applicable
            if applicable:
                assert row.low <= row.value <= row.high
                assert row.n >= row.patients >= 6


def test_better_models_score_better(results: Results) -> None:
    assert results.main("student", MEAN_TASK).value > results.main("before", MEAN_TASK).value + 0.1
    assert results.best_teacher(MEAN_TASK).model == "sharp"
    assert results.difference("student", "before", MEAN_TASK).low > 0
    assert results.difference("student", "before", MEAN_TASK).better == 1
    assert results.difference("student", "blind to words", MEAN_TASK) is None


def test_the_mean_is_unweighted_over_tasks(results: Results) -> None:
    for model in ("student", TEACHER_MEAN):
        values = [results.main(model, task).value for task in TASKS]
        assert results.main(model, MEAN_TASK).value == pytest.approx(np.mean(values))


def test_the_mean_of_a_modality_runs_over_its_tasks(results: Results) -> None:
    def value(task: str, modality: str) -> float:
        rows = results.of(model="blurred", task=task)
        return next(row.value for row in rows if row.modality == modality)

    assert value(MEAN_TASK, "ct") == pytest.approx(np.mean([value(task, "ct") for task in TASKS]))
    row = next(row for row in results.of(model="blurred", task=MEAN_TASK) if row.modality == "ct")
    assert (row.n, row.patients, row.main) == (3 * 6 + 12, 3, False)
    blind = [row.modality for row in results.of(model="blind to words", task=MEAN_TASK)]
    assert blind == [""]


def test_a_difference_is_that_of_the_values(results: Results) -> None:
    for row in results.differences:
        mine, theirs = results.main(row.model, row.task), results.main(row.other, row.task)
        assert row.value == pytest.approx(mine.value - theirs.value)
        assert row.low <= row.value <= row.high
    assert {row.model for row in results.differences} == {"student"}


def test_metrics_come_from_the_dump(results: Results, folder: Path) -> None:
    dump = read_predictions(folder / "predictions" / "zero" / "blurred.parquet")
    assert isinstance(dump, ClassPredictions)
    right = dump.scores.argmax(axis=1) == dump.truth
    recalls = [right[dump.truth == each].mean() for each in np.unique(dump.truth)]
    assert results.main("blurred", "zero").value == pytest.approx(np.mean(recalls))
    accuracy = next(row for row in results.of(model="blurred", task="zero") if row.metric == "accuracy")
    by_patient = [right[dump.patients == each].astype(float) for each in np.unique(dump.patients)]
    oracle = stats.bootstrap(
        ([each.mean() for each in by_patient],), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert accuracy.value == pytest.approx(right.mean())
    assert accuracy.low == pytest.approx(oracle.low, abs=0.1)
    assert accuracy.high == pytest.approx(oracle.high, abs=0.1)


def test_the_teacher_mean_is_the_mean_of_class_probabilities(folder: Path, results: Results) -> None:
    def scores(task: str, name: str) -> np.ndarray:
        dump = read_predictions(folder / "predictions" / task / f"{name}.parquet")
        assert isinstance(dump, ClassPredictions)
        return dump.scores

    mean_name = next(path.stem for path in (folder / "predictions" / "zero").glob("teacher_mean*"))
    np.testing.assert_allclose(
        scores("zero", mean_name), (scores("zero", "sharp") + scores("zero", "blurred")) / 2, atol=1e-6
    )
    assert [model.members for model in results.models if model.role == "ensemble"] == [
        ("sharp", "blurred", "blind to words")
    ]


def test_rows_by_modality_and_by_setting(results: Results) -> None:
    modal = {row.modality for row in results.of(model="student", task="zero")}
    assert modal == {"", "xray", "ct"}
    probe = {
        row.setting: row for row in results.of(model="blurred", task="probe") if row.metric == "accuracy"
    }
    assert set(probe) == {"", "50 % of training patients"}
    assert probe["50 % of training patients"].seeds == 2
    assert probe["50 % of training patients"].spread is not None
    assert not probe["50 % of training patients"].main


def test_facts_of_tasks_and_models(results: Results) -> None:
    tasks = {task.name: task for task in results.tasks}
    assert tasks["search"].facts == {"images": 12, "texts": 11, "pairs": 12}
    assert tasks["zero"].prompts_sha256 == suite().tasks[0].prompts_sha256()
    assert sum(each["n"] for each in tasks["near"].facts["classes"].values()) == 12
    assert tasks["probe"].facts["train_patients"] == 12
    assert {model.name: model.image_dim for model in results.models}["sharp"] == 8
    assert {"numpy", "scikit-learn", "meddistill"} <= set(results.versions)


def test_agreement_with_every_teacher(results: Results) -> None:
    rows = {(row.teacher, row.measure): row for row in results.agreement if not row.modality}
    assert set(rows) == {(teacher, "labels") for teacher in ("sharp", "blurred")}, (
        "12 images are too few for cka and neighbours"
    )
    assert rows["sharp", "labels"].value > rows["blurred", "labels"].value


def test_examples_are_the_same_queries_for_all_models(results: Results) -> None:
    queries = {}
    for row in results.examples:
        queries.setdefault(row.model, []).append((row.direction, row.query))
        assert len(row.answers) == 5
        assert any(row.right) or row.rank > 5
    assert len({tuple(each) for each in queries.values()}) == 1
    assert set(queries) == {"student", "sharp", "blurred", "before"}


def test_results_can_be_read_again(results: Results, folder: Path) -> None:
    assert Results.load(folder) == results
    (folder / "broken").mkdir()
    (folder / "broken" / "results.json").write_text('{"suite": 1}')
    for wrong in (folder / "broken", folder / "absent"):
        with pytest.raises(UserError, match=r"must hold (a suite's )?results"):
            Results.load(wrong)


def test_nothing_that_was_written_names_a_patient_or_shows_a_caption(results: Results, folder: Path) -> None:
    assert results.tasks
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"name-of-" not in content, path
            assert b"picture number" not in content, path


def test_the_same_work_is_not_done_twice(world: Path, folder: Path, results: Results) -> None:
    models = _models()
    before = {path: path.stat().st_mtime_ns for path in (folder / "predictions").rglob("*.parquet")}
    again = _evaluate(world, folder, models)
    assert {path: path.stat().st_mtime_ns for path in (folder / "predictions").rglob("*.parquet")} == before
    assert again == results
    assert [model.images_seen for model in models] == [0] * len(models)


def test_changed_prompts_change_their_task_alone(world: Path, tmp_path: Path) -> None:
    models = [ColourModel(), ColourModel("sharp", "teacher", seed=1)]
    first = _evaluate(world, tmp_path, models)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "predictions").rglob("*.parquet")}
    content = json.loads(suite().model_dump_json())
    content["tasks"][0]["templates"] = ["some {}"]
    second = _evaluate(world, tmp_path, models, suite=suite(tasks=content["tasks"]))
    changed = {path.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"zero"}
    assert second.main("student", "near") == first.main("student", "near")
    assert TEACHER_MEAN not in {model.name for model in second.models}


def test_another_task_moves_no_interval(world: Path, tmp_path: Path) -> None:
    tasks = json.loads(suite().model_dump_json())["tasks"]
    alone = _evaluate(
        world, tmp_path / "a", [ColourModel(noise=0.8)], suite=suite(tasks=[tasks[1], tasks[3]])
    )
    all_of_them = _evaluate(world, tmp_path / "b", [ColourModel(noise=0.8)])
    assert alone.main("student", "search") == all_of_them.main("student", "search")


@pytest.mark.parametrize("names", [[], ["a", "a"], [TEACHER_MEAN]])
def test_refused_models(world: Path, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(ConfigError, match="different names"):
        _evaluate(world, tmp_path, [ColourModel(name) for name in names])


def test_one_patient_and_one_class(tmp_path: Path) -> None:
    """All that is undefined is None, nothing is NaN."""
    world = write_world(tmp_path, patients=4, per_patient=1)
    tasks = json.loads(suite().model_dump_json())["tasks"]
    found = _evaluate(world, tmp_path / "out", suite=suite(tasks=[tasks[0], tasks[3]]))
    row = found.main("student", "zero")
    assert (row.n, row.patients, row.value, row.low) == (1, 1, 1.0, None)
    auc = next(row for row in found.of(model="student", task="zero") if row.metric == "auc")
    assert (auc.value, auc.note) == (None, "not defined on these rows")
    assert found.main("student", "search").value == 1
    assert "NaN" not in (tmp_path / "out" / "results.json").read_text()
    assert any("fewer than 5 test patients" in warning for warning in found.warnings)


def test_tables_that_name_no_patients_are_told(world: Path, tmp_path: Path) -> None:
    content = suite().model_dump(mode="json")
    known = _evaluate(world, tmp_path / "known", [ColourModel()])
    assert not any("no column `patient`" in warning for warning in known.warnings)
    for each in content["tables"].values():
        del each["patient"]
    found = _evaluate(world, tmp_path / "out", [ColourModel()], suite=type(suite()).model_validate(content))
    told = [warning for warning in found.warnings if "no column `patient`" in warning]
    assert told == [each for each in found.warnings if each.startswith("table test: no column")]
    assert len(told) == 1
    assert found.main("student", "zero").patients == found.main("student", "zero").n


def test_rows_that_changed_have_another_hash(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(hashes))
        folder.mkdir()
        found = _evaluate(write_world(folder, seed=seed), folder / "out", [ColourModel()])
        hashes.append({task.name: task.sha256 for task in found.tasks})
    assert hashes[0] == hashes[1]  # another folder, and another key of the ids
    assert not set(hashes[0].values()) & set(hashes[2].values())


def test_pretraining_on_a_tasks_data_set_is_told(world: Path, tmp_path: Path) -> None:
    content = suite().model_dump(mode="json")
    content["tasks"][0]["dataset"] = "Che-Xpert"
    content["tasks"][1]["dataset"] = ["RSNA", "MIMIC-CXR-JPG"]
    marked = type(suite()).model_validate(content)
    models = [
        ColourModel(pretraining_data=("CheXpert", "MIMIC-CXR")),
        ColourModel("sharp", "teacher", seed=1, pretraining_data=("mimic_cxr",)),
        ColourModel("blurred", "teacher", noise=0.6, seed=2, pretraining_data=("CHEXPERT",)),
    ]
    found = Results.load(_evaluate(world, tmp_path, models, suite=marked).save(tmp_path).parent)
    first, second = (task.name for task in found.tasks[:2])
    assert found.seen("student", first) == ("Che-Xpert",)
    assert found.seen("student", second) == ("MIMIC-CXR-JPG",)
    assert (found.seen("sharp", first), found.seen("sharp", second)) == ((), ("MIMIC-CXR-JPG",))
    assert (found.seen("blurred", first), found.seen("blurred", second)) == (("Che-Xpert",), ())
    assert found.seen(TEACHER_MEAN, second) == ("MIMIC-CXR-JPG",)
    assert found.seen("student", MEAN_TASK) == ("Che-Xpert", "MIMIC-CXR-JPG")
    assert found.seen("student", found.tasks[2].name) == ()
    assert found.seen("nobody", first) == ()


def test_naming_a_data_set_repeats_no_prediction(world: Path, tmp_path: Path) -> None:
    models = [ColourModel()]
    _evaluate(world, tmp_path, models)
    content = suite().model_dump(mode="json")
    content["tasks"][0]["dataset"] = "CheXpert"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "predictions").rglob("*.parquet")}
    _evaluate(world, tmp_path, models, suite=type(suite()).model_validate(content))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "predictions").rglob("*.parquet")}
