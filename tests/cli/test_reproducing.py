"""The command that a report gives to repeat its run."""

import html
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from meddistill.cli.options import RunOptions
from recipe_data import do_run

Say = Callable[..., tuple[int, str, str]]


def command_in(report: Path) -> list[str] | None:
    """The words of the command that the report shows."""
    section = report.read_text().partition('<section id="reproduce">')[2]
    shown = re.search("<pre>(meddistill .*?)</pre>", section)
    return shlex.split(html.unescape(shown[1])) if shown else None


def test_a_report_gives_the_command_as_it_was_typed(
    say: Say, own_world: Path, own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = [str(own_world.relative_to(tmp_path)), "--out", own_run.name, "--set", "about.what=two words"]
    code, _, err = say("report", *typed)
    assert code == 0, err
    words = command_in(own_run / "report.html")
    assert words == ["meddistill", "run", *typed]
    # It can be given as it stands, and finds everything done.
    code, _, err = say(*words[1:], "--quiet")
    assert (code, "report: done already" in err) == (0, True), err
    # From Python no command is known; what `recipe.yaml` of the folder is stands there anyway.
    do_run(own_world, own_run)
    assert command_in(own_run / "report.html") is None
    assert "<code>recipe.yaml</code> in the run folder" in (own_run / "report.html").read_text()


def test_a_command_for_others_has_no_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = RunOptions(out=tmp_path.parent / "else" / "out", overrides=("name=x",), smoke=True)
    command = options.repeating(tmp_path / "lab" / "mine.yaml")
    assert command == "meddistill run lab/mine.yaml --out out --set name=x --smoke"
    assert (
        RunOptions(out=tmp_path / "runs" / "a").repeating(Path("demo")) == "meddistill run demo --out runs/a"
    )
    assert options.repeating(tmp_path.parent / "mine.yaml") is None
    assert RunOptions(overrides=("data.train.table=/there/t.csv",)).repeating(Path("demo")) is None
    for value in ("{table: t.csv, root: /there}", "['/there/a.csv']", "local-dir:/there/a"):
        assert RunOptions(overrides=(f"data.train={value}",)).repeating(Path("demo")) is None
