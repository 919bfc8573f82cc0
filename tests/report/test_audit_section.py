"""The section on the teachers before training: its maps, tables and words hold the audit's numbers."""

import re
import xml.etree.ElementTree as ET
from typing import Any

from report_data import report_data

from meddistill.evaluation.audit.record import Audit, AuditScore, LeaveOut, Likeness, TeacherFacts
from meddistill.report.audit import teachers_before
from meddistill.report.charts import Tile, tiles
from meddistill.report.models import ModelStyle
from meddistill.report.write import render

LOOKS = tuple(ModelStyle(name=name, role="teacher", css=f"c-t{place}") for place, name in enumerate("abc"))


def score(teacher: str, value: float, **changes: Any) -> AuditScore:
    known = {"family": "retrieval", "modality": "ct", "low": value - 0.1, "high": value + 0.1}
    known |= {"chance": 0.1, "images": 50, "answers": 50}
    return AuditScore(teacher=teacher, value=value, **(known | changes))


def left_out(teacher: str, of: int, loss: float | None, redundancy: float | None) -> LeaveOut:
    low, high = (None, None) if loss is None else (loss - 0.01, loss + 0.01)
    return LeaveOut(
        teacher=teacher, of=of, loss=loss, low=low, high=high, redundancy=redundancy, nearest="a", tied=True
    )


def audit(**changes: Any) -> Audit:
    known: dict[str, Any] = {
        "store": "0" * 16,
        "seed": 7,
        "resamples": 300,
        "level": 0.95,
        "held": {"images": 1000, "texts": 900, "pairs": 1000},
        "rows": {"images": 60, "texts": 50, "pairs": 60},
        "modalities": {"ct": 50},
        "teachers": tuple(
            TeacherFacts(name=name, dims={"image": 8}, modalities=None, images=60, texts=0) for name in "abc"
        ),
        "scores": (score("a", 0.5), score("b", 0.3, images=20)),
        "ensemble": (score("ensemble", 0.7),),
        "likeness": (
            Likeness(first="a", second="b", tower="image", modality="", cka=0.93, neighbours=0.4, n=60),
            Likeness(first="b", second="c", tower="image", modality="", cka=-0.001, neighbours=0.1, n=60),
        ),
        "first_round": (),
        "order": (
            left_out("c", 3, -0.05, 0.95),
            left_out("b", 2, 0.04, 0.1),
            left_out("a", 1, None, None),
        ),
        "rule": "By a rule.",
    }
    return Audit(**(known | changes))


def test_the_section_stands_in_the_report_with_its_numbers() -> None:
    html = render(report_data(audit=audit()))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\u202f", " ")
    for said in (
        "60 of 1 000 images with 50 captions, drawn evenly over modalities with seed 7",
        "The first teacher to drop is c: without it the 2 others together score 0.050 higher on a scale",
        "The ensemble is better without it. Nearly all of its information is also in the other 2; it is "
        "most like a.",
        "The ensemble is worse without it, but no other is clearly cheaper to drop. Little of its "
        "information is also in the other one.",
        "The last one: keep it.",
        "0.20 to 0.40; n = 20",
        "By a rule.",
    ):
        assert said in text, said
    assert 'href="#before"' in html
    assert 'id="before"' not in render(report_data())


def test_maps_are_symmetric_and_say_what_they_show() -> None:
    found = teachers_before(audit(), LOOKS)
    assert [each.title for each in found.maps] == [
        "Similarity of spaces (CKA), images", "Common neighbours, images",
    ]  # fmt: skip
    root = ET.fromstring(found.maps[0].chart)
    squares = [each for each in root.iter("rect") if each.attrib.get("class", "").startswith("tile-")]
    classes = [each.attrib["class"] for each in squares]
    assert [each.removeprefix("tile-") for each in classes] == [
        "none",
        "6",
        "none",
        "6",
        "none",
        "0",
        "none",
        "0",
        "none",
    ]
    assert "a and b: 0.930 on 60 rows" in "".join(root.itertext())
    assert [each.text for each in root.iter("text") if "on-" in each.attrib.get("class", "")][-1] == "0.00"


def test_the_best_single_teacher_is_marked_and_shades_run_from_chance() -> None:
    matrix = teachers_before(audit(), LOOKS).scores
    assert [column.name for column in matrix.columns] == ["a", "b", "ensemble"]
    cells = matrix.rows[0][1]
    assert [cell.best for cell in cells] == [True, False, False]
    assert [cell.shade for cell in cells] == [4, 2, 6]


def test_without_scores_redundancy_alone_speaks() -> None:
    found = teachers_before(
        audit(scores=(), ensemble=(), order=(left_out("b", 2, None, 0.7), left_out("a", 1, None, None))),
        LOOKS,
    )
    assert found.scores is None
    assert found.sentence == "The first teacher to drop is b, the most redundant one (0.70 of 1)."
    reason = "Much of its information is also in the other one; it is most like a."
    assert found.drops[0][2] == reason
    page = render(report_data(audit=audit(order=(left_out("b", 2, 0.1, 0.7), left_out("a", 1, None, None)))))
    assert "without it the other one alone scores" in page
    assert "with room for" not in page
    assert "keep the last two" in render(report_data(audit=audit()))
    alone = teachers_before(audit(order=(left_out("a", 1, None, None),)), LOOKS)
    assert alone.sentence == "There are not two teachers to compare."


def test_names_of_teachers_are_text() -> None:
    chart = tiles(
        [("<b>", "c-t0"), ("b" * 40, "c-t1")], [[None, Tile(value=1.0, words="<i>")]] * 2, label="x"
    )
    words = "".join(ET.fromstring(chart).itertext())
    assert "<b>" in words
    assert "<i>" in words
    assert "b" * 40 not in words
