"""`features audit` on a store, a run folder and a recipe; the run makes it for its report."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recipe_data import TEACHERS, do_run

Say = Callable[..., tuple[int, str, str]]


def test_a_run_audits_its_teachers_once_and_shows_it(small_world: Path, own_run: Path) -> None:
    audit = json.loads((own_run / "audit.json").read_text())
    assert [row["name"] for row in audit["teachers"]] == list(TEACHERS)
    assert "The teachers before training" in (own_run / "report.html").read_text()
    (own_run / "report.html").unlink()
    diary = do_run(small_world, own_run)
    assert "audit: done already" in diary.said
    assert not any("audit" in label for label in diary.opened)
    assert "The teachers before training" in (own_run / "report.html").read_text()
    (own_run / "audit.json").unlink()
    (own_run / "report.html").unlink()
    do_run(small_world, own_run)
    assert json.loads((own_run / "audit.json").read_text()) == audit


def test_the_verb_on_a_run_folder_and_on_a_store(say: Say, own_run: Path) -> None:
    made = json.loads((own_run / "audit.json").read_text())
    code, out, err = say("features", "audit", own_run)
    assert code == 0, err
    for words in ("Each teacher alone", "Likeness on images", "Which teacher to drop first", *TEACHERS):
        assert words in out, words
    assert json.loads((own_run / "audit.json").read_text()) == made
    code, out, _ = say("features", "audit", own_run / "features", "--rows", 60, "--seed", 3)
    assert code == 0
    found = json.loads((own_run / "features" / "audit.json").read_text())
    assert (found["rows"]["images"], found["seed"]) == (60, 3)
    assert str(own_run / "features" / "audit.json") in out
    # A foreign file in its folder is no damage to a store.
    assert say("features", "verify", own_run / "features")[0] == 0


def test_the_verb_on_a_recipe(
    say: Say, small_world: Path, own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    own_run.rename(tmp_path / "runs" / "small")
    monkeypatch.chdir(tmp_path)
    code, out, err = say("features", "audit", small_world)
    assert code == 0, err
    assert "audit.json" in out


def test_what_it_refuses(say: Say, own_run: Path, tmp_path: Path) -> None:
    code, _, err = say("features", "audit", tmp_path)
    assert code == 2
    assert "must be a feature store" in err
    code, _, err = say("features", "audit", own_run, "--rows", 3)
    assert code == 2
    assert "`--rows` must be at least 50" in err
