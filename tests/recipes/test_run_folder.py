"""Steps that are done stay done, changed inputs are named, one run at a time."""

import time
from pathlib import Path

import pytest

from meddistill.errors import UserError
from meddistill.recipes.run_folder import RunFolder, digest


def test_a_finished_step_is_done_for_its_inputs_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    inputs = {"stage": {"epochs": 2, "learning_rate": 0.1}, "data": "abc"}
    assert not folder.state("distill", inputs).done
    folder.finish("distill", inputs, seconds=1.5)
    assert RunFolder(tmp_path).state("distill", inputs).done
    changed = folder.state("distill", {"stage": {"epochs": 3, "learning_rate": 0.1}, "extra": 1})
    assert not changed.done
    assert changed.changed == ("data (gone)", "extra (new)", "stage.epochs (2 → 3)")
    assert folder.facts("distill")["seconds"] == 1.5


def test_what_is_of_an_earlier_student_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    for each in (folder.features, folder.student, folder.bundle):
        each.mkdir()
    folder.report.touch()
    assert [name for name, _ in folder.results()] == ["features"]
    for step in ("student", "export"):
        folder.finish(step, {})
    assert [name for name, _ in folder.results()] == ["features", "student", "bundle"]
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2099, 1, 1, 0, 0, 0, 0, 1, 0)))
    folder.finish("student", {"weights": "others"})
    assert [name for name, _ in folder.results()] == ["features", "student"]


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path).locked(),
        pytest.raises(UserError, match="one run at a time"),
        RunFolder(tmp_path).locked(),
    ):
        pass
    with RunFolder(tmp_path).locked():
        pass


def test_damaged_steps_are_reported(tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(UserError, match="must be JSON"):
        RunFolder(tmp_path).state("x", {})


def test_digest_depends_on_content_not_on_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
