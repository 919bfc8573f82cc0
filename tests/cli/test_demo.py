"""The demo from its command: sizes, the slices at its end, what it proposes to try next."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from meddistill.recipes.load import PACKAGED
from meddistill.recipes.yaml_file import read_yaml
from meddistill.students.folder import load_student
from meddistill.students.size import model_size

Say = Callable[..., tuple[int, str, str]]
KINDS = ("chest X-ray", "abdominal CT", "brain MRI", "abdominal ultrasound")
DEMO = Path("demo")

pytestmark = pytest.mark.slow


def test_demo(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = say("demo", "--smoke", "--samples", 360, "--out", DEMO)
    assert code == 0, err
    lines = out.splitlines()
    _check_slices(lines)
    _check_sizes(out.replace("\u202f", " "))
    assert np.load(DEMO / "real_slices.npy").shape == (2, 128)
    assert "Done in " in out
    assert "meddistill demo --out demo --samples 360 --seed 0 --smoke" in (DEMO / "report.html").read_text()
    # What it proposes to try next can be given as it stands.
    words = [line.split() for line in lines if line.startswith("  ")]
    (proposed,) = [arguments for _, *arguments in words if arguments[:1] == ["check"]]
    assert say(*proposed)[0] == 0


def _check_slices(lines: list[str]) -> None:
    """A row for each slice with prediction, right answer and whether they agree; below, how many do."""
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in lines if ".dcm " in line and "│" in line]
    assert Counter(answer for *_, answer, _ in rows) == dict.fromkeys(KINDS, 3)
    for _, prediction, probability, answer, mark in rows:
        assert 1 / 9 <= float(probability) <= 1
        assert mark == ("right" if prediction == answer else "wrong")
    right = sum(mark == "right" for *_, mark in rows)
    assert f"{right} of {len(rows)} right." in lines


def _check_sizes(out: str) -> None:
    """The student has at most half of each teacher's parameters; what is printed and the report say so."""
    mine = _parameters(DEMO / "student")
    theirs = {
        name: _parameters(DEMO / "teachers" / name / "student")
        for name in read_yaml(PACKAGED / "demo.yaml")["teachers"]
    }
    for name, size in theirs.items():
        assert mine <= size / 2
        assert re.search(rf"{name} \S+ [kM] \(student {mine / size:.0%} of it\)", out)
    page = (DEMO / "report.html").read_text()
    assert f"{mine / min(theirs.values()):.0%} of its smallest teacher" in page


def _parameters(folder: Path) -> int:
    return model_size(load_student(folder)).parameters
