"""The section on survival: curves, numbers at risk, models beside baselines."""

import re

import pytest
from report_data import report_data, results, score

from meddistill.evaluation.base.exhibits import SurvivalCurve
from meddistill.evaluation.base.results import ModelFacts, Results, TaskFacts
from meddistill.report.models import model_styles
from meddistill.report.survival import survival_tasks
from meddistill.report.survival_chart import kaplan_meier_chart, shown_until
from meddistill.report.write import render


def _curve(model: str = "student", group: str = "lower risk", **changes: object) -> SurvivalCurve:
    """Six patients: one dies at 2, one is censored at 4, two die at 5, two are followed to 90."""
    known = {
        "model": model,
        "task": "death",
        "group": group,
        "unit": "months",
        "times": (0.0, 2.0, 4.0, 5.0, 90.0),
        "survival": (1.0, 5 / 6, 5 / 6, 5 / 12, 5 / 12),
        "low": (1.0, 0.3, 0.3, 0.1, 0.1),
        "high": (1.0, 0.9, 0.9, 0.8, 0.8),
        "at_risk": (6, 6, 5, 4, 2),
        "p_value": 0.0004,
    }
    return SurvivalCurve.model_validate({**known, **changes})


def _results(**facts: object) -> Results:
    known = results()
    task = TaskFacts(
        name="death",
        family="survival",
        main_metric="c_index",
        n=20,
        patients=12,
        modalities={},
        include_in_mean=False,
        sha256="",
        facts={"cohort": 12, "events": 6, "unit": "months", "folds": 5, "repeats": 3, "chance": 0.5, **facts},
    )
    names = ("student", "radiology", "skin", "clinical only")
    rows = []
    for place, name in enumerate(names):
        changes = {"model": name, "role": "teacher" if place in (1, 2) else "baseline", "task": "death"}
        changes |= {"family": "survival", "metric": "c_index", "value": 0.6 + place / 20}
        base = score("student", "findings")
        rows.append(base.model_copy(update={**changes, "spread": 0.01}))
        extra = {**changes, "metric": "integrated_brier", "value": 0.1, "main": False}
        rows.append(base.model_copy(update=extra))
    rows.append(rows[0].model_copy(update={"setting": "with clinical columns", "main": False, "value": 0.87}))
    own = ModelFacts(name="clinical only", role="baseline", fingerprint="", has_text=False, tasks=("death",))
    curves = [_curve(name, group) for name in names for group in ("lower risk", "higher risk")]
    return known.model_copy(
        update={
            "tasks": (*known.tasks, task),
            "models": (*known.models, own),
            "results": (*known.results, *rows),
            "exhibits": tuple(curves),
        }
    )


def test_the_section_shows_models_beside_the_baselines() -> None:
    found = _results(median_follow_up=22.8, horizons=[6.0, 12.0], sites=3)
    (task,) = survival_tasks(found, model_styles(found))
    assert [(row.name, row.setting) for row in task.rows] == [
        ("student", "images"),
        ("student", "images with clinical columns"),
        ("radiology", "images"),
        ("skin", "images"),
        ("clinical only", "–"),
    ]
    assert task.rows[0].cells[0].value == "0.600"
    assert task.rows[0].cells[3].value == "0.100"
    assert task.rows[0].spread == "0.010"
    # Of the teachers the best alone is drawn.
    assert [plot.name for plot in task.plots] == ["student", "skin", "clinical only"]
    assert task.plots[0].p_value == "log-rank p < 0.001"
    words = "12 patients, 6 events, median follow-up 22.8 months; 5 folds, 3 divisions"
    assert task.about == f"{words} that keep 3 sites whole"
    page = render(report_data(results=found))
    assert '<a href="#survival">Survival</a>' in page
    assert "with an event until 6, 12 months" in page
    assert "<script" not in page


def test_a_tasks_baseline_stands_in_its_section_alone() -> None:
    found = _results()
    assert "clinical only" not in {style.name for style in model_styles(found)}
    page = render(report_data(results=found))
    scores = page[page.index('<section id="scores">') : page.index('<section id="survival">')]
    assert "clinical only" not in scores


def test_no_section_without_a_survival_task() -> None:
    assert 'id="survival"' not in render(report_data())
    assert 'id="survival"' not in render(report_data(results=None))


def test_numbers_at_risk_stand_under_the_axis() -> None:
    chart = kaplan_meier_chart([_curve()], label="curves")
    assert shown_until([_curve()]) == 90  # two of six are a third
    figures = re.findall(r'class="figure small">(\d+)<', chart)
    assert figures == ["6", "2", "2", "2", "2"]  # at 0, 20, 40, 60 and 80 months
    assert chart.count('class="censored"') == 2  # at 4 and at 90


def test_a_few_followed_for_long_do_not_stretch_the_axis() -> None:
    many = _curve(at_risk=(600, 600, 500, 400, 2))
    assert shown_until([many]) == 5
    chart = kaplan_meier_chart([many], label="curves")
    assert re.findall(r'class="figure small">(\d+)<', chart) == ["600", "600", "600", "500", "500", "400"]
    assert ">90<" not in chart


@pytest.mark.parametrize(
    "changes",
    [
        {"times": (0.0,), "survival": (1.0,), "low": (1.0,), "high": (1.0,), "at_risk": (3,)},
        {"p_value": None, "group": "<b>third</b>", "unit": "<i>weeks</i>"},
    ],
)
def test_odd_curves_are_drawn_and_escaped(changes: dict[str, object]) -> None:
    chart = kaplan_meier_chart([_curve(**changes)], label="curves")
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert "nan" not in chart


def test_cohorts_are_told_where_patients_are_compared_inside_them() -> None:
    (task,) = survival_tasks(_results(strata=4), ())
    assert task.about.endswith("compared inside each of 4 cohorts")
    assert task.within == "fold and cohort"
    (plain,) = survival_tasks(_results(), ())
    assert plain.within == "fold"
