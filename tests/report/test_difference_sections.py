"""The sections on differences between models and on groups of patients say what the records hold."""

import pytest
from report_data import report_data, results

from meddistill.evaluation.base.records import Comparison, GroupGap, GroupScore, Place, Ranking
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.report.differences import differences, equals
from meddistill.report.formatting import probability
from meddistill.report.groups import panels, single_labels
from meddistill.report.models import model_styles
from meddistill.report.write import render

COMMON = {"task": "findings", "family": "zero_shot", "metric": "balanced_accuracy", "group": "sex", "seed": 0}


def _groups() -> tuple[GroupScore, ...]:
    notes = {"female": "no rows of cyst", "male": ""}
    scored = [
        GroupScore(
            **COMMON, model=model, label=label, value=value, low=value - 0.05, high=value + 0.05,
            n=30, patients=25,
            worst=label == "female", library="ours", note=notes[label],
        )
        for model in ("student", "radiology")
        for label, value in (("female", 0.611), ("male", 0.744))
    ]  # fmt: skip
    blank = GroupScore(**COMMON, model="student", label="", n=3, patients=2, library="ours", note="blank")
    return (*scored, blank)


def _results() -> Results:
    whole = results()
    tested = tuple(
        row.model_copy(
            update={
                "p_value": 0.001,
                "p_holm": 0.0004 if row.other == "skin" else 0.25,
                "seen": ("CheXpert",) if row.other == "radiology" else (),
            }
        )
        for row in whole.differences
    )
    more = {
        "differences": tested,
        "comparisons": (
            Comparison(
                seed=0, library="ours",
                model="student", other="radiology", tasks=7, wins=4, ties=2, losses=1, raw_wins=5, raw_ties=0,
                raw_losses=2, mean_difference=0.125, p_value=0.031, p_holm=0.062, seen_tasks=("findings",),
            ),
            Comparison(
                seed=0, library="ours",
                model="student", other=TEACHER_MEAN, tasks=2, wins=0, ties=2, losses=0, raw_wins=1,
                raw_ties=0, raw_losses=1, mean_difference=0, note="no test below 6 tasks",
            ),
        ),
        "ranking": Ranking(
            tasks=("findings", "retrieval"), mean_ranks={"student": 1.0, "radiology": 2.0}, statistic=6.3,
            p_value=0.00001, critical_difference=1.25, alpha=0.05, left_out=("skin",),
        ),
        "places": (Place(model="student", task=MEAN_TASK, first=0.93, rank=1.07, models=2),),
        "groups": _groups(),
        "gaps": (
            GroupGap(
                **COMMON, model="student", value=0.133, low=0.01, high=0.3, best="male", worst="female",
                labels=2, n=60, patients=50, library="ours",
            ),
            GroupGap(**COMMON, model="radiology", labels=1, n=3, patients=3, library="ours", note="no two"),
        ),
    }  # fmt: skip
    return whole.model_copy(update=more)


def test_the_page_holds_both_sections() -> None:
    page = render(report_data(results=_results()))
    for words in ('<section id="differences">', '<section id="groups">', "4 / 2 / 1", "5 / 0 / 2", "+0.125"):
        assert words in page
    for words in ("0.031", "93%", "no test below 6 tasks", "▼ female", "&lt;0.001", "+0.120"):
        assert words in page
    assert '<section id="groups">' not in render(report_data())


def test_differences_in_words() -> None:
    whole = _results()
    found = differences(whole, model_styles(whole))
    assert found.reference == "student"
    # Of skin there is one single task; its corrected p value alone is below 5 %.
    assert "Of 5 differences on single tasks 1 stand" in found.sentence
    assert found.sentence.endswith("1 for it and 0 against it.")
    assert [row.other for row, _ in found.tallies] == [
        TEACHER_MEAN,
        "radiology",
    ]  # as everywhere in the report
    assert found.tallies[1][0].seen_tasks == ("findings",)
    assert [(row.name, row.rank, row.first) for row in found.ranks] == [
        ("student", "1.00", "93%"),
        ("radiology", "2.00", "–"),
    ]
    assert "χ² = 6.3, p < 0.001" in found.rank_words
    assert "more than 1.25 apart" in found.rank_words
    assert "Without skin" in found.rank_words


def test_the_forest_marks_what_stands_and_what_was_seen() -> None:
    whole = _results()
    drawn = str(differences(whole, model_styles(whole)).forest)
    rows = len(whole.differences)
    assert drawn.count('class="dot"') == sum(row.other == "skin" for row in whole.differences)
    assert drawn.count('class="dot"') + drawn.count('class="ring"') == rows
    assert drawn.count("radiology†") == sum(row.other == "radiology" for row in whole.differences)
    assert "skin†" not in drawn


def test_too_few_resamples_are_said() -> None:
    whole = _results().model_copy(update={"resamples": 100})
    assert "none on a single task could stand" in differences(whole, model_styles(whole)).sentence


def test_differences_without_intervals_or_tests_are_drawn() -> None:
    whole = results()
    bare = tuple(row.model_copy(update={"low": None, "high": None}) for row in whole.differences)
    found = differences(whole.model_copy(update={"differences": bare}), model_styles(whole))
    assert 'class="whisker"' not in found.forest
    assert found.tallies == ()
    assert differences(whole.model_copy(update={"differences": ()}), model_styles(whole)) is None


def test_groups_in_words() -> None:
    whole = _results()
    (panel,) = panels(whole, model_styles(whole))
    assert panel.title == "findings, balanced accuracy, by sex"
    mine, theirs = panel.rows
    assert (mine.worst, mine.lowest, mine.gap) == ("female", "0.611 (0.56 to 0.66)", "0.133")
    assert mine.interval == "0.010 to 0.300"
    assert (theirs.gap, theirs.worst, theirs.note) == ("–", "–", "no two")
    assert panel.hidden == "not known: 3 images of 2 patients, blank; female: no rows of cyst"
    assert "▼ female" in panel.chart


def test_groups_that_are_all_hidden_have_no_chart() -> None:
    whole = _results()
    hidden = tuple(row.model_copy(update={"value": None, "note": "hidden"}) for row in whole.groups)
    (panel,) = panels(whole.model_copy(update={"groups": hidden}), model_styles(whole))
    assert panel.chart is None
    assert panel.rows == ()
    assert "female: 30 images of 25 patients, hidden" in panel.hidden


def _groups_of(**changes: object) -> Results:
    """The groups, every score of `female` changed."""
    whole = _results()
    groups = [row.model_copy(update=changes) if row.label == "female" else row for row in whole.groups]
    return whole.model_copy(update={"groups": tuple(groups)})


def test_the_worst_group_is_marked_where_intervals_are_apart() -> None:
    assert "▼" in str(panels(_results(), model_styles(_results()))[0].chart)
    near = _groups_of(high=0.7)  # the best one begins at 0.694
    assert "▼" not in str(panels(near, model_styles(near))[0].chart)
    unknown = _groups_of(low=None, high=None)
    assert "▼" not in str(panels(unknown, model_styles(unknown))[0].chart)


def test_one_scored_group_has_nothing_to_be_compared_with() -> None:
    found = _groups_of(value=None, low=None, high=None, worst=False, note="hidden: fewer than 20 patients")
    (panel,) = panels(found, model_styles(found))
    assert (panel.chart, panel.rows) == (None, ())
    assert panel.hidden.startswith("male is the only group large enough to be scored (student 0.744")
    assert "female: 30 images of 25 patients, hidden" in panel.hidden


def test_a_column_with_one_label_is_no_group() -> None:
    whole = _results()
    found = whole.model_copy(update={"groups": tuple(row for row in whole.groups if row.label != "female")})
    assert panels(found, model_styles(found)) == ()
    assert single_labels(found) == "findings by sex (male)"
    page = render(report_data(results=found))
    assert "one label alone: findings by sex (male)." in page
    assert "Worst group and gap" not in page
    assert "Not drawn" not in render(report_data(results=whole))


@pytest.mark.parametrize(
    ("family", "words"),
    [("zero_shot", "30 images"), ("retrieval", "30 queries"), ("vqa_zero_shot", "30 questions"),
     ("survival", "30 patients"), ("bag_classification", "30 bags")],
)  # fmt: skip
def test_groups_say_what_they_count(family: str, words: str) -> None:
    found = _groups_of(family=family)
    assert f"n = {words}" in str(panels(found, model_styles(found))[0].chart)


def test_patients_are_not_said_to_be_of_patients() -> None:
    found = _groups_of(family="survival", value=None, n=13, patients=13, note="hidden")
    assert "female: 13 patients, hidden" in panels(found, model_styles(found))[0].hidden


def test_references_are_not_said_to_fail_at_other_tasks() -> None:
    whole = _results()
    own = whole.models[0].model_copy(update={"name": "random features", "tasks": ("death",)})
    ranking = whole.ranking.model_copy(update={"left_out": ("skin", "random features")})
    found = whole.model_copy(update={"models": (*whole.models, own), "ranking": ranking})
    assert differences(found, model_styles(found)).rank_words.endswith(
        "Without skin, which cannot do all of them."
    )


@pytest.mark.parametrize(
    ("value", "words"), [(None, "–"), (0.0001, "<0.001"), (0.0312, "0.031"), (0.456, "0.46"), (1.0, "1.00")]
)
def test_probabilities(value: float | None, words: str) -> None:
    assert probability(value) == words


def test_probabilities_after_a_p() -> None:
    assert (equals(0.0001), equals(0.02)) == ("< 0.001", "= 0.020")
