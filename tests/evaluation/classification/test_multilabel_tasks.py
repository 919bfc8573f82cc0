"""Several labels of an image, and validation rows: configs, truth, both tasks, dumps, the whole of it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import COLOURS, ColourModel, suite, table, write_world
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.engine.registry import AnyTask, build_task
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.classification.score_predictions import VALIDATION
from meddistill.progress import SilentProgress

NAMES = ["red", "green", "warm", "violet"]
COLUMNS = {name: f"has_{name}" for name in NAMES}
ROLES = {"train": "train", "validation": "val", "test": "test"}
POINTS = [{"sensitivity": 0.9}, {"youden": True}]


class Negating(ColourModel):
    """Knows that "no red" is the opposite of "red"."""

    def embed_texts(self, texts: Any) -> np.ndarray | None:
        found = super().embed_texts([text.removeprefix("no ") for text in texts])
        signs = np.array([-1.0 if text.startswith("no ") else 1.0 for text in texts], dtype=np.float32)
        return None if found is None else found * signs[:, None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colours as labels: red, green, warm (red or green), violet (none); some cells unknown."""
    folder = write_world(tmp_path_factory.mktemp("labels"))
    with (folder / "table.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for number, row in enumerate(rows):
        found = [row["label"], "warm"] if row["label"] in ("red", "green") else []
        row["findings"] = " | ".join(found)
        for name in NAMES:
            row[f"has_{name}"] = str(float(name in found))
        row["has_red"] = ("", "-1", "-1.0")[number % 3] if number % 7 == 0 else row["has_red"]
        row["is_red"] = "red" if row["label"] == "red" else "other"
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _task(world: Path, **content: Any) -> AnyTask:
    config = suite(tasks=[{"name": "one", **content}])
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    return build_task(config.tasks[0], parts, SampleNames(world, examples=True))


def _zero(world: Path, **more: Any) -> AnyTask:
    return _task(world, **{"kind": "zero_shot_multilabel", "table": "test", "labels": COLUMNS, **more})


def _probe(world: Path, **more: Any) -> AnyTask:
    return _task(world, **{"kind": "linear_probe_multilabel", "labels": COLUMNS, **ROLES, **more})


def _predict(task: AnyTask, model: ColourModel, folder: Path) -> Any:
    return task.predict(Embeddings(model, folder=folder, progress=SilentProgress()))


def test_truth_of_columns_and_of_one_cell(world: Path) -> None:
    columns = _zero(world)
    truth = columns.truth(columns.tested)
    one = _zero(world, labels=NAMES, label="findings")
    listed = one.truth(one.tested)
    assert set(truth[:, 0]) == {-1, 0, 1}
    known = truth >= 0
    np.testing.assert_array_equal(truth[known], listed[known])
    assert listed.min() == 0
    absent = _zero(world, blank="absent")
    assert (absent.truth(absent.tested) == -1).sum() < (truth == -1).sum()
    assert listed[:, NAMES.index("violet")].max() == 0


def test_a_cell_that_is_no_truth_is_refused_with_its_row(world: Path) -> None:
    with pytest.raises(TableError, match=r"`label` must be 1, 0, -1 or blank; it is not in row"):
        _zero(world, labels={"red": "label"}).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "at least 1"),
        ({"labels": ["a", "a"]}, "differ from one another"),
        ({"prompts": {"blue": "blue"}}, "must be of `labels`"),
        ({"prompts": {"red": " "}}, "not blank"),
        ({"positive_templates": ["a picture"]}, "one placeholder|one `{}`"),
        ({"temperature": 0}, "greater than 0"),
        ({"operating_points": [{"sensitivity": 0.9, "youden": True}]}, "each name one"),
    ],
)
def test_refused_configs(world: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _zero(world, **change)


def test_prompts_are_phrases_in_templates_or_stand_as_they_are(world: Path) -> None:
    own = {"positive": ["a green thing"], "negative": ["nothing green"]}
    task = _zero(world, prompts={"red": "crimson", "green": own}, negative_templates=["no {}", "without {c}"])
    pairs = task.config.pairs()
    assert pairs["red"] == (("crimson",), ("no crimson", "without crimson"))
    assert pairs["green"] == (("a green thing",), ("nothing green",))
    assert pairs["warm"] == (("warm",), ("no warm", "without warm"))
    assert task.facts()["prompts_sha256"] != _zero(world).facts()["prompts_sha256"]


def test_zero_shot_is_chexzeros_pair_of_prompts(world: Path, tmp_path: Path) -> None:
    model = Negating(noise=0.3)
    task = _zero(world, positive_templates=["a {}", "{}"])
    found = _predict(task, model, tmp_path)
    images = normalized(model.embed_images(task.tested.samples, advance=lambda _: None))
    for column, name in enumerate(NAMES):
        present = normalized(normalized(model.embed_texts([f"a {name}", name])).mean(axis=0)[None])
        absent = normalized(model.embed_texts([f"no {name}"]))
        rising = np.exp(images @ present.T)[:, 0]
        expected = rising / (rising + np.exp(images @ absent.T)[:, 0])
        np.testing.assert_allclose(found.scores[:, column], expected, atol=1e-6)
    hot = _predict(_zero(world, positive_templates=["a {}", "{}"], temperature=0.1), model, tmp_path)
    assert (hot.scores.argsort(axis=0) == found.scores.argsort(axis=0)).all()


def test_the_probe_is_one_regression_a_label_on_its_known_rows(world: Path, tmp_path: Path) -> None:
    task = _probe(world, validation=None, default_c=0.7)
    model = ColourModel(noise=0.3)
    found = _predict(task, model, tmp_path)
    train, test = (
        model.embed_images(task.parts[role].samples, advance=lambda _: None).astype(np.float64)
        for role in ("train", "test")
    )
    spread = np.sqrt(np.square(train - train.mean(axis=0)).mean())
    truth = task.truth(task.parts["train"])
    for column in range(3):
        known = truth[:, column] >= 0
        oracle = LogisticRegression(C=0.7 / spread**2, max_iter=10_000, tol=1e-8)
        oracle.fit(train[known], truth[known, column])
        expected = oracle.predict_proba(test)[:, 1]
        np.testing.assert_allclose(found.scores[:, column], expected, atol=2e-3)
    np.testing.assert_array_equal(found.scores[:, 3], 0.0)
    assert "nothing to learn of violet" in " ".join(task.facts()["warnings"])


def test_undefined_labels_are_named_and_left_out(world: Path, tmp_path: Path) -> None:
    task = _zero(world)
    facts = task.facts()
    assert "violet (no positive row)" in " ".join(facts["warnings"])
    assert facts["labels"]["warm"]["n"] == facts["labels"]["warm"]["known"] - 4
    dump = _predict(task, Negating(), tmp_path)
    scores = _scores(dump)
    defined = [scores["auc", f"label {name}"].replicates[0] for name in NAMES[:3]]
    assert scores["auc", ""].replicates[0] == pytest.approx(np.mean(defined))
    assert np.isnan(scores["auc", "label violet"].replicates[0])


def test_the_dump_comes_back(world: Path, tmp_path: Path) -> None:
    dump = _predict(_probe(world, operating_points=POINTS), ColourModel(), tmp_path)
    write_predictions(dump, tmp_path / "a.parquet", fingerprint="f")
    again = read_predictions(tmp_path / "a.parquet", fingerprint="f")
    assert isinstance(again, LabelPredictions)
    np.testing.assert_array_equal(again.truth, dump.truth)
    np.testing.assert_array_equal(again.scores, dump.scores)
    assert (again.settings, again.operating_points) == (dump.settings, dump.operating_points)
    assert set(dump.settings) == {"", VALIDATION}


def test_one_patient_and_one_label_have_no_interval(world: Path, tmp_path: Path) -> None:
    task = _zero(world, labels={"warm": "has_warm"}, where={"patient": "name-of-1"})
    dump = _predict(task, Negating(), tmp_path)
    main = next(each for each in dump.metrics(_resampler()) if each.main)
    assert main.patients == 1
    assert len(main.replicates) == 101


def _resampler() -> Resampler:
    return Resampler(suite().bootstrap)


def _scores(dump: Any) -> dict[tuple[str, str], Score]:
    """Scores on all rows by metric and setting."""
    found = dump.metrics(_resampler())
    return {(each.metric, each.setting): each for each in found if not each.modality}


@pytest.fixture(scope="module")
def results(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    binary = {"label": "is_red", "positive": "red", "operating_points": POINTS}
    tasks = [
        {"name": "many", "kind": "zero_shot_multilabel", "table": "test", "validation": "val",
         "labels": COLUMNS, "operating_points": POINTS},
        {"name": "listed", "kind": "linear_probe_multilabel", "labels": NAMES, "label": "findings", **ROLES},
        {"name": "zero", "kind": "zero_shot", "table": "test", "validation": "val", "classes": list(COLOURS)},
        {"name": "two", "kind": "zero_shot", "table": "test", "classes": {"other": "blue", "red": "red"},
         **binary},
        {"name": "probe", "kind": "linear_probe", **ROLES, **binary, "shots": [1, 2, 16], "seeds": 2},
    ]  # fmt: skip
    tables = {split: table(split) for split in ("train", "val", "test")}
    config = suite(tasks=tasks, tables=tables)
    models = [
        Negating(noise=0.5),
        Negating("sharp", "teacher", noise=0.2, seed=1),
        Negating("blurred", "teacher", noise=0.9, seed=2),
    ]
    folder = tmp_path_factory.mktemp("found")
    return evaluate(models, config, base=world, folder=folder, progress=SilentProgress())


def _rows(results: Results, task: str, model: str = "student") -> dict[tuple[str, str], Any]:
    return {(row.metric, row.setting): row for row in results.of(model=model, task=task) if not row.modality}


def test_all_models_are_judged_on_all_kinds(results: Results) -> None:
    for model in ("student", "sharp", "blurred", TEACHER_MEAN):
        for task in ("many", "listed", "zero", "two", "probe", MEAN_TASK):
            row = results.main(model, task)
            assert row is not None
            assert row.low <= row.value <= row.high
    assert results.main("sharp", "many").value > results.main("blurred", "many").value
    assert any(row.modality == "ct" for row in results.of(model="student", task="many"))


def test_label_rows_and_thresholds_from_validation(results: Results) -> None:
    rows = _rows(results, "many")
    assert rows["mean_average_precision", ""].value > 0.5
    assert rows["average_precision", "label red"].n < rows["average_precision", "label green"].n
    setting = "green: sensitivity ≥ 0.9, threshold from validation"
    found = {name: rows[name, setting] for name in ("sensitivity", "specificity", "ppv", "npv", "prevalence")}
    assert all(row.low <= row.value <= row.high for row in found.values())
    threshold = rows["threshold", setting]
    assert (threshold.low, threshold.failed, threshold.patients) == (None, 0, 6)
    nobody = rows["threshold", "violet: highest Youden index, threshold from validation"]
    assert (nobody.value, nobody.note) == (None, "not defined: no positive validation row")


def test_temperature_has_its_own_scores_and_moves_no_decision(results: Results) -> None:
    rows = _rows(results, "zero")
    tempered = {metric for metric, setting in rows if setting == "temperature on validation"}
    assert tempered == {"auc", "ece", "adaptive_ece", "brier", "nll", "temperature"}
    assert rows["temperature", "temperature on validation"].value > 0
    assert rows["nll", ""].value != rows["nll", "temperature on validation"].value
    assert all(row.setting == "" for row in results.of(task="zero") if row.metric == "balanced_accuracy")
    assert not any(setting == VALIDATION for row in results.results for setting in [row.setting])
    assert {row.n for row in results.of(task="zero") if row.metric == "accuracy"} == {12}


def test_operating_points_without_validation_say_so(results: Results) -> None:
    rows = _rows(results, "two")
    settings = {setting for _, setting in rows if "threshold from" in setting}
    assert settings == {
        f"{rule}, threshold from test rows, optimistic"
        for rule in ("sensitivity ≥ 0.9", "highest Youden index")
    }
    row = rows["sensitivity", "sensitivity ≥ 0.9, threshold from test rows, optimistic"]
    assert row.value >= 0.9


def test_shots_are_averaged_over_seeds_and_short_classes_named(results: Results) -> None:
    rows = _rows(results, "probe")
    assert {setting for _, setting in rows} >= {"1 shot a class", "2 shots a class", "16 shots a class"}
    assert rows["balanced_accuracy", "1 shot a class"].seeds == 2
    assert rows["balanced_accuracy", "1 shot a class"].spread is not None
    assert any("fewer training images than 16 shots of red" in each for each in results.warnings)


def test_exhibits_of_every_model(results: Results) -> None:
    drawn = [each for each in results.exhibits if each.model == "student"]
    curves = {(each.task, each.label): each for each in drawn if each.kind == "roc"}
    assert set(curves) == {
        *(("many", name) for name in (*NAMES[:3], "macro")),
        *(("listed", name) for name in (*NAMES[:3], "macro")),
        *(("zero", name) for name in (*COLOURS, "macro")),
        ("two", "red"),
        ("probe", "red"),
    }
    for name in (("zero", "macro"), ("two", "red"), ("probe", "red"), ("listed", "macro")):
        assert curves[name].auc == pytest.approx(_rows(results, name[0])["auc", ""].value, abs=1e-9)
    calibrated = {(each.task, each.setting) for each in drawn if each.kind == "calibration"}
    assert calibrated == {
        ("zero", ""), ("zero", "temperature on validation"), ("two", ""),
        ("probe", ""), ("probe", "temperature on validation"),
    }  # fmt: skip
    ece = next(each.ece for each in drawn if each.kind == "calibration" and each.task == "two")
    assert ece == pytest.approx(_rows(results, "two")["ece", ""].value)
    confusion = next(each for each in drawn if each.kind == "confusion" and each.task == "zero")
    assert np.sum(confusion.counts) == pytest.approx(12)


def test_numbers_come_from_the_dump(results: Results, world: Path, tmp_path: Path) -> None:
    model = Negating(noise=0.5)
    dump = _predict(_probe(world, labels=NAMES, label="findings"), model, tmp_path).main
    truth, scores = dump.truth[:, :3], dump.scores[:, :3]
    rows = _rows(results, "listed")
    assert rows["auc", ""].value == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    mean = average_precision_score(truth, scores)
    assert rows["mean_average_precision", ""].value == pytest.approx(mean, abs=1e-6)


def test_validation_rows_stay_out_of_the_score(world: Path, tmp_path: Path) -> None:
    content = {"kind": "zero_shot", "table": "test", "classes": list(COLOURS)}
    alone = _predict(_task(world, **content), ColourModel(), tmp_path)
    beside = _predict(_task(world, **content, validation="val"), ColourModel(), tmp_path)
    assert isinstance(beside, ClassPredictions)
    assert (len(alone.rows), len(beside.rows)) == (24, 36)  # with and without the logit scale
    np.testing.assert_array_equal(beside.main.scores, alone.main.scores)
    first, second = _scores(alone), _scores(beside)
    for key, score in first.items():
        assert (score.replicates[0], score.n) == (second[key].replicates[0], second[key].n)
    assert (min(alone.rows), len(set(beside.rows.tolist()))) == (min(beside.main.rows), 24)
    assert alone.validation is None
    assert alone.temperatures() == {}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"operating_points": POINTS}, ValidationError, "`positive` must name a class"),
        ({"positive": "pink", "operating_points": POINTS}, ConfigError, "one of two classes"),
        ({"ordinal": True}, ValidationError, "must give the order"),
        ({"classes": ["red", "red"]}, ValidationError, "differ from one another"),
        ({"shots": [2, 2]}, ValidationError, "differ from one another"),
        ({"classes": ["red", "green"]}, TableError, "'blue'"),
    ],
)
def test_refused_probes(world: Path, content: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _task(world, kind="linear_probe", **ROLES, **content).check()


def test_grades_in_their_order(world: Path, tmp_path: Path) -> None:
    task = _task(
        world, kind="knn", train="train", test="test", classes=["blue", "green", "red"], ordinal=True
    )
    dump = _predict(task, ColourModel(noise=0.5), tmp_path)
    assert dump.classes == ("blue", "green", "red")
    metrics = {each.metric for each in dump.metrics(_resampler())}
    assert "quadratic_kappa" in metrics
    assert "ece" not in metrics
