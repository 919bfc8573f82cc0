"""What cannot be computed is said: absent classes, points without a threshold, temperatures at a bound."""

from typing import Any

import numpy as np
import pytest
from colour_world import COLOURS, ColourModel, suite, table, write_world

from meddistill.evaluation.base.results import Result, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.tasks.classification.calibration import at_bound
from meddistill.evaluation.tasks.classification.classes import absent_classes
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.operating_points import MEASURES
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.progress import SilentProgress

POINTS = [{"sensitivity": 0.9}, {"youden": True}]
BOUND = "the temperature fitted on validation ran to its bound"
TEMPERED = "temperature on validation"


def test_absent_classes_are_one_sentence_or_none() -> None:
    assert absent_classes(["a", "b", "c"], ["a", "c", "b", "b"]) == []
    assert absent_classes(["a", "b", "c"], ["b"]) == [
        "no tested rows of: a, c; means over classes run over the others"
    ]


def test_a_bound_is_no_result() -> None:
    assert at_bound([1.0, 0.2, 40.0]) == ""
    assert at_bound([]) == ""
    assert at_bound([1.0, 99.99]).endswith("100")
    assert at_bound([0.010001]).endswith("0.01")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The judged rows lack blue; those of `reds`, which serve as validation, are all red."""
    folder = write_world(tmp_path_factory.mktemp("lacking"))
    tables = {split: table(split) for split in ("train", "val")}
    tables["test"] = table("test", where={"split": "test", "label": ["red", "green"]})
    tables["reds"] = table("val", where={"split": "val", "label": "red"})
    two = {"classes": ["green", "red"], "where": {"label": ["red", "green"]}, "positive": "red"}
    labels = {"kind": "linear_probe_multilabel", "labels": ["red", "green"], "train": "train", "test": "test"}
    tasks = [
        {"name": "three", "kind": "zero_shot", "table": "test", "classes": list(COLOURS)},
        {"name": "reds", "kind": "zero_shot", "table": "test", "validation": "reds",
         "operating_points": POINTS, **two},
        {"name": "probe", "kind": "linear_probe", "train": "train", "validation": "reds", "test": "test",
         "operating_points": POINTS, **two},
        {"name": "itself", "kind": "zero_shot", "table": "reds", "operating_points": POINTS, **two},
        {"name": "labels", "validation": "reds", "operating_points": POINTS, **labels},
    ]  # fmt: skip
    config = suite(tasks=tasks, tables=tables)
    return evaluate(
        [ColourModel()],
        config,
        base=folder,
        folder=tmp_path_factory.mktemp("out"),
        progress=SilentProgress(),
    )


def _rows(results: Results, task: str, setting: str) -> dict[str, Result]:
    return {row.metric: row for row in results.of(task=task) if row.setting == setting}


def test_classes_without_a_tested_row_are_named(results: Results) -> None:
    said = "three: no tested rows of: blue; means over classes run over the others"
    assert said in results.warnings
    assert not any(each.startswith("reds: no tested rows") for each in results.warnings)


@pytest.mark.parametrize(
    ("task", "setting", "why"),
    [
        ("reds", "sensitivity ≥ 0.9, threshold from validation", "all validation rows are of red"),
        ("probe", "highest Youden index, threshold from validation", "all validation rows are of red"),
        ("itself", "sensitivity ≥ 0.9, threshold from test rows, optimistic", "all tested rows are of red"),
        ("labels", "red: sensitivity ≥ 0.9, threshold from validation", "no negative validation row"),
        ("labels", "green: highest Youden index, threshold from validation", "no positive validation row"),
    ],
)
def test_points_without_a_threshold_stay_and_say_why(
    results: Results, task: str, setting: str, why: str
) -> None:
    rows = _rows(results, task, setting)
    assert set(rows) == {"threshold", *MEASURES}
    assert {row.value for row in rows.values()} == {None}
    assert {row.note for row in rows.values()} == {f"not defined: {why}"}
    assert all(row.n and row.patients for row in rows.values())
    assert any(each.startswith(f"{task}: operating points are not defined") for each in results.warnings)


def test_a_temperature_at_its_bound_calibrates_nothing(results: Results) -> None:
    """All validation rows are of one class, which the model knows: the surer the better."""
    for task in ("reds", "probe"):
        rows = _rows(results, task, TEMPERED)
        assert set(rows) == {"auc", "ece", "adaptive_ece", "brier", "nll", "temperature"}
        assert {row.value for row in rows.values()} == {None}
        assert all(row.note.startswith(f"not defined: {BOUND}") for row in rows.values())
        assert any(each.startswith(f"{task}: student: not calibrated: {BOUND}") for each in results.warnings)
        assert _rows(results, task, "")["ece"].value is not None
    drawn = {(each.task, each.setting) for each in results.exhibits if each.kind == "calibration"}
    assert ("reds", "") in drawn
    assert not any(setting for _, setting in drawn)


def test_undefined_numbers_without_a_reason_of_their_own_keep_the_common_one(results: Results) -> None:
    row = _rows(results, "itself", "")["auc"]
    assert (row.value, row.note) == (None, "not defined on these rows")


def _known(**more: Any) -> dict[str, Any]:
    return {
        "rows": np.arange(1, 5),
        "samples": tuple("abcd"),
        "patients": np.arange(4),
        "modalities": ("",) * 4,
        "settings": ("",) * 4,
        "seeds": np.zeros(4, dtype=np.int64),
        **more,
    }


def test_predictions_without_validation_warn_of_nothing() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    one = ClassPredictions(
        **_known(), classes=("a", "b"), truth=np.array([0, 1, 0, 1]), scores=scores,
        probabilities=True,
    )  # fmt: skip
    assert one.warnings() == ()
    several = LabelPredictions(**_known(), labels=("a", "b"), truth=np.eye(2, dtype=int)[[0, 1, 0, 1]],
                               scores=scores, probabilities=True)  # fmt: skip
    assert several.warnings() == ()
