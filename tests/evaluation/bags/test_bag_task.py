"""Bags from tables, tasks over them, their dumps, and an evaluation from end to end."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_world import bag_suite, write_bags, write_features, write_rows
from colour_world import ColourModel
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score

from meddistill.errors import ConfigError, TableError, UserError
from meddistill.evaluation.base.exhibits import BagAttention
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.bags.predictions import BagPredictions
from meddistill.evaluation.tasks.bags.task import BagClassification
from meddistill.progress import SilentProgress


@pytest.fixture(scope="module")
def bag_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bags(tmp_path_factory.mktemp("bags"), patients=60)


MODELS = [ColourModel(), ColourModel("sharp", "teacher", seed=1), ColourModel("b", "teacher", noise=0.5)]


def _evaluate(world: Path, folder: Path, *, models: int = len(MODELS), **more: Any) -> Results:
    suite = bag_suite(**more)
    return evaluate(MODELS[:models], suite, base=world, folder=folder, progress=SilentProgress())


def _task(world: Path, folder: Path, **more: Any) -> BagClassification:
    suite = bag_suite(**more)
    parts = SuiteTables(suite, base=world).parts(suite.tasks[0])
    task = build_task(suite.tasks[0], parts, SampleNames(folder, examples=False))
    assert isinstance(task, BagClassification)
    return task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def results(bag_folder: Path, folder: Path) -> Results:
    grades = {"label": "grade", "classes": [0, 1], "ordinal": True, "pooling": ["attention", "mean", "max"]}
    return _evaluate(bag_folder, folder, **grades)


def _dump(folder: Path, model: str) -> BagPredictions:
    found = read_predictions(next((folder / "predictions" / "diagnosis").glob(f"{model}*.parquet")))
    assert isinstance(found, BagPredictions)
    return found


def test_attention_finds_the_red_image(results: Results, folder: Path) -> None:
    assert results.main("student", "diagnosis").value > 0.9
    dump = _dump(folder, "student")
    main = [row for row, setting in enumerate(dump.settings) if setting == "" and dump.truth[row]]
    second = [dump.attention[row].argmax() == 1 for row in main]  # the red image stands second
    assert np.mean(second) > 0.9


def test_numbers_are_those_of_the_dump(results: Results, folder: Path) -> None:
    dump = _dump(folder, "b")
    for setting, seeds in {"": 3, "mean pooling": 1, "max pooling": 1}.items():
        rows = [row for row in results.of(model="b", task="diagnosis") if row.setting == setting]
        found = {row.metric: row for row in rows if not row.modality}
        fits = [
            [row for row, own in enumerate(dump.settings) if own == setting and dump.seeds[row] == seed]
            for seed in range(seeds)
        ]
        given = [(dump.truth[fit], dump.scores[fit].argmax(axis=1)) for fit in fits]
        wanted = {
            "balanced_accuracy": np.mean([balanced_accuracy_score(*each) for each in given]),
            "quadratic_kappa": np.mean([cohen_kappa_score(*each, weights="quadratic") for each in given]),
        }
        for metric, value in wanted.items():
            assert found[metric].value == pytest.approx(value)
            assert (found[metric].n, found[metric].patients, found[metric].seeds) == (20, 20, seeds)
            assert found[metric].low <= value <= found[metric].high


def test_the_teacher_mean_averages_probabilities_and_attention(results: Results, folder: Path) -> None:
    mean, one, two = (_dump(folder, name) for name in ("teacher", "sharp", "b"))
    assert results.main(TEACHER_MEAN, "diagnosis").value is not None
    np.testing.assert_allclose(mean.scores, (one.scores + two.scores) / 2, atol=1e-12)
    for found, first, second in zip(mean.attention, one.attention, two.attention, strict=True):
        np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)


def test_facts_count_bags(results: Results) -> None:
    facts = results.tasks[0].facts
    assert facts["bags"] == 20
    assert facts["classes"] == {"0": {"n": 10, "patients": 10}, "1": {"n": 10, "patients": 10}}
    assert facts["instances"] == results.tasks[0].n > 30
    assert 3 <= facts["median_instances"] <= 6


def test_exhibits_show_attention_of_rows(results: Results, folder: Path) -> None:
    found = [each for each in results.exhibits if isinstance(each, BagAttention)]
    assert {each.model for each in found} == {"student", "sharp", "b", TEACHER_MEAN}
    dump = _dump(folder, "student")
    bags = {tuple(sorted(rows.tolist())) for rows in dump.instances}
    for each in found:
        assert each.table == "test"
        assert each.instances == len(each.rows)
        assert tuple(sorted(each.rows)) in bags
        assert sum(each.weights) == pytest.approx(1, abs=1e-5)
        assert list(each.weights) == sorted(each.weights, reverse=True)
    assert "name-of" not in results.model_dump_json()


def test_a_dump_comes_back_as_it_was(results: Results, folder: Path, tmp_path: Path) -> None:
    dump = _dump(folder, "student")
    write_predictions(dump, tmp_path / "again.parquet", fingerprint="x")
    again = read_predictions(tmp_path / "again.parquet", fingerprint="x")
    assert isinstance(again, BagPredictions)
    for field in dataclasses.fields(dump):
        mine, theirs = getattr(dump, field.name), getattr(again, field.name)
        if field.name in ("instances", "attention"):
            assert all(np.array_equal(one, two) for one, two in zip(mine, theirs, strict=True))
        else:
            assert np.array_equal(mine, theirs), field.name
    np.testing.assert_array_equal(dump.samples, again.samples)
    assert not any("name-of" in each for each in dump.samples)


def test_equal_runs_give_equal_numbers(bag_folder: Path, tmp_path: Path) -> None:
    one, two = (
        _evaluate(bag_folder, tmp_path / each, models=1, epochs=2, seeds=2, validation=True)
        for each in ("a", "b")
    )
    assert one.results == two.results
    assert one.exhibits == two.exhibits


def test_bags_may_be_named_by_a_column(bag_folder: Path, tmp_path: Path) -> None:
    by_patient, by_slide = _task(bag_folder, tmp_path), _task(bag_folder, tmp_path, bag="slide")
    for role, bags in by_patient.bags.items():
        assert bags.labels == by_slide.bags[role].labels
        for one, two in zip(bags.instances, by_slide.bags[role].instances, strict=True):
            np.testing.assert_array_equal(one, two)
    assert by_slide.bags["test"].names[0].startswith("slide")


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({1: "well"}, {}, r"`label` must be the same in all rows of a bag; got 'ill', 'well' in rows"),
        ({6: "slide0"}, {"bag": "slide"}, r"`slide` must have rows of one patient in each bag"),
        ({6: ""}, {"bag": "slide"}, r"`slide` must not be blank"),
        ({}, {"classes": ["ill", "other"]}, r"got 'well' \(\d+ bags\)"),
        ({}, {"where": {"label": "ill"}}, r"must have two classes at least"),
    ],
)
def test_bags_that_disagree_are_refused(
    tmp_path: Path, change: dict[int, str], more: dict[str, Any], words: str
) -> None:
    world = write_bags(tmp_path)
    rows = [line.split(",") for line in (world / "bags.csv").read_text().splitlines()[1:]]
    victim = next(row for row in rows if row[0] == "b1_2.png")  # of an ill patient in training
    for column, value in change.items():
        victim[column] = value
    write_rows(world / "bags.csv", rows)
    suite = bag_suite(**more)
    with pytest.raises(ConfigError, match=words) as error:
        check_tasks(suite, SuiteTables(suite, base=world))
    assert "name-of" not in str(error.value)
    with pytest.raises(TableError, match=words):
        evaluate([ColourModel()], suite, base=world, folder=tmp_path / "out", progress=SilentProgress())


def test_stored_features_are_judged_on_the_same_bags(bag_folder: Path, tmp_path: Path) -> None:
    """Stored features that hold the label score 1; the models never see them."""
    task = _task(bag_folder, tmp_path, bag="slide", stored={"uni": str(tmp_path / "uni")}, epochs=3)
    with pytest.raises(TableError, match=r"`stored.uni` must be a folder with an .h5 file for every bag"):
        task.check()
    random = np.random.default_rng(0)
    for bags in task.bags.values():
        for name, label in zip(bags.names, bags.labels, strict=True):
            features = random.normal(size=(4, 3)) + 3 * (label == "ill")
            write_features(tmp_path / "uni" / f"{name}.h5", features.astype(np.float32))
    task.check()
    before = task.digest(), task.of_baseline("uni")
    found = task.baselines()["uni"]
    mine = task.predict(Embeddings(ColourModel(), folder=tmp_path / "e", progress=SilentProgress()))
    mean = np.array(found.settings) == "mean pooling"
    assert (found.scores[mean].argmax(axis=1) == found.truth[mean]).all()
    assert (found.samples, found.table) == (mine.samples, "")
    np.testing.assert_array_equal(found.patients, mine.patients)
    assert found.instances[0].tolist() == [1, 2, 3, 4]
    write_features(tmp_path / "uni" / "slide0.h5", np.ones((2, 5), np.float32))
    assert task.digest() == before[0]
    assert task.of_baseline("uni") != before[1]
    with pytest.raises(UserError, match="got widths 3 and 5"):
        _ = task.baselines()["uni"]
    # All of the test bags alike, but not like those that were learnt from.
    write_features(tmp_path / "uni" / "slide0.h5", np.ones((2, 3), np.float32))
    for name in task.bags["test"].names:
        write_features(tmp_path / "uni" / f"{name}.h5", np.ones((2, 5), np.float32))
    with pytest.raises(UserError, match="got widths 3 and 5"):
        _ = task.baselines()["uni"]


def test_one_image_a_bag_and_one_patient(tmp_path: Path, bag_folder: Path) -> None:
    """Nasty sizes: bags of one image (no attention to learn), and two test bags of one class."""
    world = write_bags(tmp_path, patients=14)
    rows = [line.split(",") for line in (world / "bags.csv").read_text().splitlines()[1:]]
    kept = [row for row in rows if row[0].endswith("_1.png")]
    kept = [row for row in kept if row[4] != "test" or row[1] == "ill"]
    write_rows(world / "bags.csv", kept)
    results = _evaluate(world, tmp_path / "out", epochs=2, pooling="max", label="grade", classes=["0", "1"])
    rows_of = {row.metric: row for row in results.of(model="student") if row.task == "diagnosis"}
    assert rows_of["balanced_accuracy"].value == 1
    assert rows_of["auc"].value is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ordinal": True}, "lowest to the highest"),
        ({"classes": ["a"]}, "two different ones"),
        ({"classes": ["a", "a"]}, "two different ones"),
        ({"pooling": ["mean", "mean"]}, "each way once"),
        ({"pooling": []}, "pooling"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_configs_that_mean_nothing_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bag_suite(**more)


def test_real_bags(real_data: Path, tmp_path: Path) -> None:
    """Grades of gliomas from slices, of which colours alone tell little."""
    named = {"table": "diagnosis.csv", "patient": "patient_id", "modality": "modality"}
    tables = {split: {**named, "where": {"task": "lgg_grade", "split": split}} for split in ("train", "test")}
    task = {"name": "lgg_grade", "kind": "bag_classification", "train": "train", "test": "test"}
    task |= {"epochs": 2, "seeds": 1, "ordinal": True, "classes": ["grade_II", "grade_III"]}
    suite = bag_suite().model_validate(
        {"name": "real", "tables": tables, "tasks": [task], "bootstrap": {"resamples": 50}}
    )
    results = evaluate([ColourModel()], suite, base=real_data, folder=tmp_path, progress=SilentProgress())
    facts = results.tasks[0].facts
    assert (facts["bags"], facts["instances"]) == (11, 174)
    assert 0 < results.main("student", "lgg_grade").value <= 1


def test_bags_whose_rows_disagree_are_of_no_group(tmp_path: Path) -> None:
    """Neither of the modality nor of the group that happens to stand first; blanks contradict nothing."""
    world = write_bags(tmp_path, patients=30)
    path = world / "bags.csv"
    lines = path.read_text().splitlines()
    rows = [[*line.split(","), "a"] for line in lines[1:]]
    places = {name: [row for row in rows if row[3] == name] for name in {row[3] for row in rows}}
    tested = [name for name, own in places.items() if own[0][4] == "test"]
    differing, blank = sorted(tested)[:2]
    places[differing][1][5:] = ["mri", places[differing][1][6], "b"]
    places[blank][0][-1] = ""
    path.write_text("\n".join([f"{lines[0]},ward", *(",".join(row) for row in rows)]) + "\n")
    task = _task(world, tmp_path, groups={"ward": {}}, pooling="mean")
    found = task.predict(Embeddings(ColourModel(), folder=tmp_path / "e", progress=SilentProgress()))
    grouped = task.grouped(found)
    first = {name: rows.index(own[0]) + 1 for name, own in places.items()}
    bag = {name: found.rows.tolist().index(first[name]) for name in (differing, blank)}
    assert (found.modalities[bag[differing]], grouped.groups["ward"][bag[differing]]) == ("", "")
    assert grouped.groups["ward"][bag[blank]] == "a"
    assert found.modalities.count("") == 1
    assert grouped.groups["ward"].count("") == 1


def test_one_picture_beside_whole_slides_is_told(tmp_path: Path) -> None:
    world = write_bags(tmp_path, patients=30)
    several = _task(world, tmp_path, stored={"uni": "uni"}).facts()["warnings"]
    assert not any("models see one picture" in line for line in several)
    lines = (world / "bags.csv").read_text().splitlines()
    kept = [line for line in lines if line.split(",")[0].endswith(("image", "_1.png"))]
    (world / "bags.csv").write_text("\n".join(kept) + "\n")
    one = _task(world, tmp_path, stored={"uni": "uni"}).facts()["warnings"]
    assert any("the stored features (uni) hold all tiles: a difference" in line for line in one)
