"""Tables that go to a file or a pipe keep their cells whole."""

import re
import sys
import time
from pathlib import Path

import pytest

from meddistill.cli import main
from meddistill.cli.classify import _write_table
from meddistill.cli.progress import BarProgress
from meddistill.imaging import ImageRef
from meddistill.runtime import Classification
from meddistill.teachers.catalogue import catalogue


def test_a_table_on_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teachers", "list"]) == 0
    printed = capsys.readouterr().out
    for identifier, entry in catalogue().items():
        assert identifier in printed
        assert entry.name in printed
    assert "…" not in printed


@pytest.mark.parametrize(("columns", "is_table"), [(200, True), (60, False)])
def test_scores_that_do_not_fit_a_terminal_become_lines(
    columns: int, is_table: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    path = Path("/an/archive/of/images/that/is/deep/scan.dcm")
    _write_table([Classification(ref=ImageRef(path), scores={"chest radiograph": 0.25, "head CT": 0.75})])
    out = capsys.readouterr().out
    assert str(path) in out
    assert ("┃" in out) == is_table
    assert is_table or out == f"{path}: head CT 0.750, chest radiograph 0.250\n"


def test_a_bar_takes_one_line_of_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with BarProgress().track("eye_and_ultrasound: images", 14_976) as advance:
        time.sleep(0.01)
        advance(7_000)
        time.sleep(0.01)
        advance(7_976)
    (line,) = capsys.readouterr().err.splitlines()
    assert "14976/14976" in line
    assert re.search(r"\d/s ", line)
    assert line.rstrip().endswith("left")
