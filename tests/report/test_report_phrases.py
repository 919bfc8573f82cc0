"""A report speaks of a student and teachers only where there are both."""

import pytest
from report_data import report_data, results
from test_report import Page

from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.report.headline import headline
from meddistill.report.models import model_styles
from meddistill.report.phrases import phrases
from meddistill.report.scores import task_columns, task_rows
from meddistill.report.write import render

STUDENT_ALONE = {"student": "student", "radiology": "baseline", "skin": "baseline"}
NO_STUDENT = {"student": "baseline", "radiology": "baseline", "skin": "baseline"}


def _renamed(
    roles: dict[str, str], *, drop: tuple[str, ...] = (TEACHER_MEAN,), half: float = 0.02
) -> Results:
    """The known results with other roles, some models dropped; `student` is called house."""
    found = results(half=half)
    names = {"student": "house"}
    models = tuple(
        each.model_copy(update={"name": names.get(each.name, each.name), "role": roles[each.name]})
        for each in found.models
        if each.name not in drop
    )
    rows = tuple(
        each.model_copy(update={"model": names.get(each.model, each.model), "role": roles[each.model]})
        for each in found.results
        if each.model not in drop
    )
    gaps = tuple(
        each.model_copy(update={"model": "house", "other_role": roles[each.other]})
        for each in found.differences
        if each.other not in drop
    )
    changes = {"models": models, "results": rows, "differences": gaps, "agreement": (), "examples": ()}
    return found.model_copy(update=changes)


def _text(found: Results) -> str:
    bare = report_data(results=found, models=(), student_terms=None, curves=(), captions=None)
    return Page(render(bare)).text


@pytest.mark.parametrize("roles", [STUDENT_ALONE, NO_STUDENT])
def test_without_teachers_nobody_is_student_or_teacher(roles: dict[str, str]) -> None:
    found = _renamed(roles)
    text = _text(found)
    assert "teacher" not in text.lower()
    assert "the student" not in text.lower()
    for said in (
        "Scores of house beside the other models",
        "house minus this model",
        "the figure beside them is house’s",
        "Models by task",
    ):
        assert said in text
    assert "▲" not in text
    assert task_columns(model_styles(found)) == ("house", "radiology", "skin")
    rows = {row.task: [cell.value for cell in row.cells] for row in task_rows(found, model_styles(found))}
    assert rows["findings"] == ["0.820", "0.700", "0.250"]


@pytest.mark.parametrize(
    ("half", "told"),
    [
        (0.02, "; it scores higher than radiology and skin."),
        (0.3, "; it scores higher than skin, does not differ clearly from radiology."),
    ],
)
def test_the_headline_names_the_model_and_the_others(half: float, told: str) -> None:
    found = headline(report_data(results=_renamed(STUDENT_ALONE, half=half), models=()))
    assert found is not None
    assert found.sentence == f"On the mean over 2 tasks house scores 0.66 (0.61 to 0.71){told}"
    assert found.tiles[0].label == "house, mean of main metrics"
    assert found.verdict == "alone"


def test_one_model_alone_has_no_others() -> None:
    found = _renamed(NO_STUDENT, drop=(TEACHER_MEAN, "radiology", "skin"))
    assert phrases(model_styles(found)).scores == "Scores of house"
    told = headline(report_data(results=found, models=()))
    assert told is not None
    assert told.sentence == "On the mean over 2 tasks house scores 0.66 (0.61 to 0.71)."


def test_with_teachers_the_student_stands_beside_them() -> None:
    text = Page(render(report_data())).text
    for said in (
        "Scores of the student beside its teachers",
        "▲ the student is better",
        "other model is better student is better",
        "Teachers by task",
        "Every teacher and the student, from chance",
        "student minus this model",
    ):
        assert said in text


def test_teachers_without_a_student() -> None:
    roles = {"student": "teacher", "radiology": "teacher", "skin": "teacher", TEACHER_MEAN: "ensemble"}
    found = _renamed(roles, drop=())
    assert task_columns(model_styles(found)) == ("house", "teacher mean", "best teacher")
    assert "the student" not in _text(found)


def test_many_others_are_counted_and_have_no_tiles() -> None:
    found = _renamed(STUDENT_ALONE)
    gap = next(each for each in found.differences if each.task == MEAN_TASK and each.other == "skin")
    own = found.models[-1]
    more = [f"extra {place}" for place in range(4)]
    many = found.model_copy(
        update={
            "models": (*found.models, *(own.model_copy(update={"name": name}) for name in more)),
            "differences": (*found.differences, *(gap.model_copy(update={"other": name}) for name in more)),
        }
    )
    told = headline(report_data(results=many, models=()))
    assert told is not None
    assert told.sentence.endswith("; it scores higher than 6 other models.")
    assert [tile.label for tile in told.tiles] == ["house, mean of main metrics"]
