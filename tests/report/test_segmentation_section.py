"""The report's section on segmentation."""

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_data import GivenExamples, report_data, results, with_reference

from meddistill.evaluation.base.exhibits import MaskExample
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.report.models import model_styles
from meddistill.report.segmentation import segmentation
from meddistill.report.write import render

TRUTH = np.zeros((4, 6), dtype=bool)
TRUTH[1:3, 2:5] = True


def _png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256)).save(buffer, format="PNG")
    return buffer.getvalue()


def _results(*, masks: bool, nothing: tuple[str, ...] = (), **facts: Any) -> Results:
    known = {"decoder": "linear", "train_n": 50, "without_structure": 3, "empty": "score", "unit": "mm"}
    task = TaskFacts(
        name="polyp_outline",
        family="segmentation_probe",
        main_metric="dice",
        n=40,
        patients=20,
        modalities={},
        include_in_mean=True,
        sha256="",
        facts={**known, "surfaces": "monai 9.9", **facts},
    )
    values = {"dice": (0.8, 0.9), "hd95_mm": (3.21, 1.5), "nsd_1.5mm": (0.7, 0.6), "invented": (0.0, 0.5)}
    rows = [
        Result(
            model=model, role=role, task=task.name, family=task.family, metric=metric, value=value,
            seed=0, main=metric == "dice", library="",
        )
        for metric, pair in values.items()
        for (model, role), value in zip((("student", "student"), ("skin", "teacher")), pair, strict=True)
    ]  # fmt: skip
    shown = {"truth": _png(TRUTH), "given": _png(~TRUTH)} if masks else {}
    exhibits = [
        MaskExample(model=model, task=task.name, table="t", row=row, place=place, dice=dice, **shown)
        for model in ("student", "skin")
        for row, place, dice in ((5, "best", 0.95), (2, "worst", 0.25))
    ]
    exhibits += [
        MaskExample(model=model, task=task.name, table="t", row=9, place="median", dice=0.0, empty=True)
        for model in nothing
    ]
    old = results()
    return old.model_copy(
        update={
            "tasks": (*old.tasks, task),
            "results": (*old.results, *rows),
            "exhibits": tuple(exhibits),
        }
    )


def test_every_metric_with_its_own_best() -> None:
    found = _results(masks=False)
    (part,) = segmentation(found, None, model_styles(found))
    assert part.title == "polyp outline"
    assert [column.name for column in part.matrix.columns] == [
        "Dice",
        "95 % surface distance, mm",
        "surface Dice within 1.5 mm",
        "structures invented",
    ]
    cells = {title.name: row for title, row in part.matrix.rows}
    assert set(cells) == {"student", "skin"}
    assert [cell.value for cell in cells["student"]] == ["0.800", "3.2", "0.700", "0.000"]
    assert [cell.best for cell in cells["student"]] == [False, False, True, True]
    assert "3 of them lack the structure: there an empty answer counts as right" in part.note
    assert "surfaces by monai 9.9" in part.note
    (left_out,) = segmentation(_results(masks=False, empty="skip"), None, model_styles(found))
    assert "in no other metric" in left_out.note


def test_only_the_student_s_outlines_and_pictures_where_all_is_there() -> None:
    pictures = GivenExamples(pictures={("t", 5): _picture()})
    for masks, examples, drawn in (
        (True, pictures, [True, False]),
        (True, None, [False, False]),
        (False, pictures, [False, False]),
    ):
        found = _results(masks=masks)
        (part,) = segmentation(found, examples, model_styles(found))
        assert [(each.place, each.dice) for each in part.outlines] == [("best", "0.950"), ("worst", "0.250")]
        assert [each.drawing is not None for each in part.outlines] == drawn


def test_outlines_run_along_the_pixels_of_the_mask() -> None:
    found = _results(masks=True)
    (part,) = segmentation(found, GivenExamples(pictures={("t", 5): _picture()}), model_styles(found))
    drawing = str(part.outlines[0].drawing)
    truth = re.search(r'd="([^"]+)" class="truth"', drawing)
    assert truth is not None
    assert sorted(re.findall(r"M\d+ \d+[HV]\d+", truth[1])) == sorted(
        ["M2 1H5", "M2 3H5", "M2 1V3", "M5 1V3"]
    )
    # The picture is a square about the mask's 4 x 6 pixels: a row above and below them.
    box = re.search(r'<image [^>]*x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"', drawing)
    assert box is not None
    assert [float(each) for each in box.groups()] == pytest.approx([0, -1, 6, 6], abs=0.03)


def test_the_whole_report() -> None:
    examples = GivenExamples(pictures={("t", 5): _picture()})
    html = render(report_data(results=_results(masks=True), examples=examples))
    assert '<section id="segmentation">' in html
    assert html.count('class="outline"') == 1
    assert "true outline" in html
    withheld = render(report_data(results=_results(masks=False)))
    assert "best of the student, Dice 0.950" in withheld
    assert 'class="outline"' not in withheld
    assert '<section id="segmentation">' not in render(report_data())


def test_the_tasks_own_baselines_stand_below_the_models_and_are_never_the_best() -> None:
    found = with_reference(_results(masks=False), "mean training mask", "polyp_outline", dice=0.99)
    (part,) = segmentation(found, None, model_styles(found))
    assert [(title.name, title.muted) for title, _ in part.matrix.rows] == [
        ("student", False), ("skin", False), ("mean training mask", True),
    ]  # fmt: skip
    dice = [(cells[0].value, cells[0].best) for _, cells in part.matrix.rows]
    assert dice == [("0.800", False), ("0.900", True), ("0.990", False)]


def test_a_model_without_a_number_says_why() -> None:
    found = _results(masks=False)
    note = "not applicable: the model has no patch tokens"
    row = next(row for row in found.results if row.model == "student" and row.metric == "dice")
    absent = row.model_copy(update={"model": "skin", "value": None, "note": note})
    others = [each for each in found.results if (each.model, each.task) != ("skin", "polyp_outline")]
    (part,) = segmentation(found.model_copy(update={"results": (*others, absent)}), None, model_styles(found))
    cells = {title.name: row for title, row in part.matrix.rows}
    assert (cells["skin"][0].value, cells["skin"][0].interval) == ("–", "no patch tokens")


def test_a_model_that_marks_nothing_is_said_to() -> None:
    words = "median of the student, Dice 0.000: marks nothing"
    assert words in render(report_data(results=_results(masks=False, nothing=("student",))))
    assert "marks nothing" not in render(report_data(results=_results(masks=False, nothing=("skin",))))


def test_figures_of_models_are_not_pale() -> None:
    html = render(
        report_data(results=with_reference(_results(masks=False), "own", "polyp_outline", dice=0.5))
    )
    section = html[html.index('<section id="segmentation">') :]
    cells = re.findall(r'<td class="cell ([a-z]+)[^>]*"><span class="value">([^<]+)', section)
    assert ("plain", "0.800") in cells
    assert {kind for kind, value in cells if value == "–"} == {"none"}


def test_what_a_missed_structure_costs_is_said() -> None:
    found = _results(masks=False)
    (part,) = segmentation(found, None, model_styles(found))
    assert "the image's diagonal as its surface distance" in part.note
