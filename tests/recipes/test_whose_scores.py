"""Scores are shown beside the student that earned them, and beside no other."""

import json
from pathlib import Path

import pytest

from meddistill.bundle_format import METRICS
from meddistill.cli import main
from meddistill.evaluation.base.results import Result, Results
from recipe_data import LIGHT, do_run

OTHER = "stages.1.epochs=2"
UNEVALUATED = "exported without an evaluation"


def _shown(run: Path, terminal: str) -> dict[str, bool]:
    """Whether bundle, report and terminal have scores of the suite."""
    card = (run / "bundle" / "README.md").read_text()
    assert (UNEVALUATED in card) != (run / "bundle" / METRICS).is_file()
    return {
        "bundle": UNEVALUATED not in card,
        "report": "small-suite" in (run / "report.html").read_text(),
        "terminal": "small-suite" in terminal,
    }


@pytest.mark.parametrize("student", ["other", "same"])
def test_a_recipe_that_evaluates_nothing_shows_no_scores(
    own_light_run: Path, small_world: Path, student: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert all(_shown(own_light_run, "small-suite").values())
    changes = [LIGHT, "evaluate=null", *([OTHER] if student == "other" else [])]
    arguments = [word for change in changes for word in ("--set", change)]
    assert main(["run", str(small_world), "--out", str(own_light_run), *arguments]) == 0
    assert not any(_shown(own_light_run, capsys.readouterr().out).values())


def test_a_student_that_is_exported_after_it_alone_was_trained_has_its_own_scores(
    own_light_run: Path, small_world: Path
) -> None:
    before = Results.load(own_light_run / "evaluation")
    do_run(small_world, own_light_run, LIGHT, OTHER, until="train")
    do_run(small_world, own_light_run, LIGHT, OTHER, until="export")
    now = Results.load(own_light_run / "evaluation")
    exported = json.loads((own_light_run / "bundle" / METRICS).read_text())["results"]
    mine = [Result.model_validate(row) for row in exported if row["model"] == "student"]
    assert mine
    assert all(row == now.main("student", row.task) for row in mine)
    known = {task.name: before.main("student", task.name) for task in before.tasks}
    assert any(row != known.get(row.task) for row in mine)
