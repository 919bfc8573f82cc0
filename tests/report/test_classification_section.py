"""Classification in detail: what is drawn of which model, where marks stand, what is left out."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from report_data import report_data, results, score

from meddistill.evaluation.base.exhibits import AnyExhibit, CalibrationCurve, Confusion, RocCurve
from meddistill.evaluation.base.results import Results
from meddistill.report.classification import classification_details
from meddistill.report.classification_charts import (
    Bins,
    Line,
    ShotPoint,
    confusion_chart,
    reliability_chart,
    roc_chart,
    shots_chart,
)
from meddistill.report.models import model_styles
from meddistill.report.write import render

RULE = "sensitivity ≥ 0.95, threshold from test rows, optimistic"


def _exhibits(model: str, auc: float) -> tuple[AnyExhibit, ...]:
    named = {"model": model, "task": "findings"}
    curve = {"fpr": (0.0, 0.2, 1.0), "tpr": (0.0, 0.9, 1.0), "auc": auc}
    bins = {"confidence": (0.6, 0.9), "accuracy": (0.5, 0.95), "counts": (10, 30)}
    return (
        *(RocCurve(label=label, **named, **curve) for label in ("cyst <b>", "none", "macro")),
        CalibrationCurve(**named, **bins, ece=0.051),
        CalibrationCurve(**named, **bins, ece=0.022, setting="temperature on validation"),
        Confusion(**named, classes=("cyst <b>", "none"), counts=((25.0, 5.0), (2.5, 7.5))),
    )


def _results(**changes: Any) -> Results:
    plain = {"main": False, "n": 40}
    rows = [
        score("student", "findings", metric="balanced_accuracy", setting=setting, value=value, **plain)
        for setting, value in (("1 shot a class", 0.41), ("16 shots a class", 0.62))
    ]
    rows += [
        score("student", "findings", metric=metric, setting=RULE, value=value, low=None, high=None, **plain)
        for metric, value in (("threshold", 0.481), ("sensitivity", 0.957), ("prevalence", 0.25))
    ]
    rows.append(
        score(
            "student",
            "findings",
            metric="temperature",
            setting="temperature on validation",
            value=1.7,
            **plain,
        )
    )
    known = results()
    drawn = (*_exhibits("student", 0.911), *_exhibits("radiology", 0.873), *_exhibits("skin", 0.5))
    return known.model_copy(update={"results": (*known.results, *rows), "exhibits": drawn, **changes})


def test_the_student_stands_beside_the_best_teacher_of_the_task() -> None:
    found = _results()
    (detail,) = classification_details(found, model_styles(found))
    assert [panel.title for panel in detail.panels] == [
        "ROC, mean over classes",
        "Reliability of student",
        "Decisions of student",
        "Balanced accuracy over labelled images",
    ]
    legend = [(name, value) for name, _, value in detail.panels[0].legend]
    assert legend == [("student", "AUC 0.911"), ("radiology", "AUC 0.873")]
    assert [value for _, _, value in detail.panels[1].legend] == ["ECE 0.051", "ECE 0.022"]
    assert "1.70" in detail.panels[1].note
    assert [panel.title for panel in detail.each] == ["cyst <b>", "none (n = 10)"]
    (row,) = detail.operating
    assert (row.rule, row.source) == ("sensitivity ≥ 0.95", "test rows, optimistic")
    assert (row.threshold, row.cells[0].value, row.cells[1].value, row.prevalence) == (
        "0.481",
        "0.957",
        "–",
        "25.0%",
    )


def test_what_is_not_defined_is_dashes_and_a_reason() -> None:
    found = _results()
    none = {"value": None, "note": "not defined: it ran to its bound 100"}
    rows = tuple(
        row.model_copy(update=none) if row.setting == RULE or row.metric == "temperature" else row
        for row in found.results
    )
    found = found.model_copy(update={"results": rows})
    (detail,) = classification_details(found, model_styles(found))
    assert detail.panels[1].note.startswith("Temperature not defined: it ran to its bound 100. 40 decisions")
    (row,) = detail.operating
    assert (row.threshold, row.cells[0].value, row.prevalence) == ("–", "–", "–")


def test_the_page_holds_it_and_escapes_names() -> None:
    page = render(report_data(results=_results()))
    assert '<section id="classification">' in page
    assert "cyst &lt;b&gt;" in page
    assert "cyst <b>" not in page
    assert "flatters the model" in page
    assert '<section id="classification">' not in render(report_data())


def test_labels_are_shown_at_once_and_without_teachers_too() -> None:
    known = _results()
    facts = {"labels": {"cyst <b>": {"n": 7, "patients": 7, "known": 40}}}
    tasks = tuple(
        task.model_copy(update={"facts": facts, "family": "zero_shot_multilabel"}) for task in known.tasks[:1]
    )
    alone = _results(tasks=tasks, exhibits=_exhibits("student", 0.9)[:3])
    (detail,) = classification_details(alone, model_styles(alone))
    assert [panel.title for panel in detail.each] == ["Mean over labels", "cyst <b> (n = 7)", "none"]
    assert detail.unfold
    assert [panel.title for panel in detail.panels] == ["Balanced accuracy over labelled images"]
    nobody = _results(exhibits=(), results=())
    assert classification_details(nobody, model_styles(nobody)) == ()


def test_shared_images_and_few_decisions_are_explained() -> None:
    found = _results()
    (detail,) = classification_details(found, model_styles(found))
    reliability, decisions = detail.panels[1], detail.panels[2]
    assert "40 decisions: too few to read the curve" in reliability.note
    assert "shared equally between them" in decisions.note
    whole = [
        each.model_copy(update={"counts": ((25.0, 5.0), (0.0, 10.0))})
        if isinstance(each, Confusion)
        else each.model_copy(update={"counts": (20, 30)})
        if isinstance(each, CalibrationCurve)
        else each
        for each in found.exhibits
    ]
    (detail,) = classification_details(_results(exhibits=tuple(whole)), model_styles(found))
    assert "too few" not in detail.panels[1].note
    assert "shared" not in detail.panels[2].note
    drawn = ET.fromstring(detail.panels[2].chart)
    figures = [each.text for each in drawn.iter("text") if "on-" in str(each.get("class"))]
    assert figures == ["25", "5", "0", "10"]


def _points(root: ET.Element) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in each.attrib["points"].split()]  # type: ignore[misc]
        for each in root.iter("polyline")
    ]


@pytest.mark.parametrize("small", [True, False])
def test_a_perfect_curve_runs_along_the_corner(small: bool) -> None:
    curve = Line(label="a", css="c-t0", points=((0.0, 0.0), (0.0, 1.0), (1.0, 1.0)))
    root = ET.fromstring(roc_chart([curve], label="roc", small=small))
    ((start, corner, end),) = _points(root)
    assert start[0] == corner[0] < end[0]
    assert corner[1] == end[1] < start[1]


def test_reliability_joins_firm_bins_and_draws_all() -> None:
    curve = CalibrationCurve(
        model="a", task="t", confidence=(0.3, 0.5, 0.9), accuracy=(1.0, 0.5, 0.9), counts=(1, 50, 99), ece=0.1
    )
    bins = Bins(label="a", css="c-t0", curve=curve)
    root = ET.fromstring(reliability_chart([bins], label="reliability"))
    ((first, second),) = _points(root)
    assert first[0] < second[0]
    assert first[1] > second[1]
    radii = [float(each.attrib["r"]) for each in root.iter("circle")]
    assert len(radii) == 3
    assert radii == sorted(radii)
    assert len(list(root.iter("rect"))) == 3


def test_confusion_shades_by_share_of_the_row() -> None:
    counts = ((90.0, 10.0, 0.0), (0.0, 0.0, 0.0), (0.5, 0.5, 1.0))
    root = ET.fromstring(confusion_chart(("a", "b", "c"), counts, label="confusion"))
    shades = [each.attrib["class"] for each in root.iter("rect")]
    assert shades == [f"tile-{shade}" for shade in (5, 1, 0, 0, 0, 0, 2, 2, 3)]
    words = [each.text for each in root.iter("text")]
    assert "90" in words
    assert "0.5" in words


def test_shots_stand_by_doublings_and_all_of_them_apart() -> None:
    points = [ShotPoint(shots=shots, value=shots / 40, low=0.0, high=0.9) for shots in (1, 2, 4, 16)]
    whole = ShotPoint(shots=None, value=0.5)
    root = ET.fromstring(
        shots_chart(
            [("a", "c-student", [*points, whole]), ("b", "c-t1", [whole])], label="s", metric="accuracy"
        )
    )
    x = [float(each.attrib["cx"]) for each in root.iter("circle")][-5:]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert x[3] - x[2] == pytest.approx(2 * (x[1] - x[0]), abs=0.3)
    assert x[4] > x[3]
    single = ShotPoint(shots=1, value=0.5)
    ET.fromstring(shots_chart([("a", "c-t0", [single])], label="s", metric="accuracy"))
