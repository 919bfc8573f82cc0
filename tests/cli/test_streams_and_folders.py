"""Output that nobody reads any more, and run folders that cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest

from meddistill.cli import main
from meddistill.cli.exit_codes import UNREAD, USERS
from recipe_data import environment


def test_a_reader_that_leaves_is_no_mistake() -> None:
    command = [sys.executable, "-m", "meddistill", "teachers", "show", "biomedclip"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == UNREAD


def test_a_run_folder_that_is_a_file(
    small_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine")
    taken = tmp_path / "taken"
    for verb, out in ((["run", str(small_world)], taken / "inside"), (["demo"], taken)):
        assert main([*verb, "--out", str(out)]) == USERS
        told = capsys.readouterr().err
        assert f"`{out}` must be a folder that can be written to" in told
        assert "Traceback" not in told
    assert taken.read_text() == "mine"


def test_vectors_that_cannot_be_written(
    finished_run: Path, small_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("mine")
    image = next((small_world.parent / "data" / "images").glob("*.png"))
    output = tmp_path / "taken" / "vectors.npy"
    assert main(["embed", str(finished_run / "bundle"), str(image), "--output", str(output)]) == USERS
    told = capsys.readouterr().err
    assert "`--output` must be a file that can be written" in told
    assert "Traceback" not in told
