"""Bundles run where nothing of the training libraries is installed: importing one of them fails there."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from meddistill.cli import main
from meddistill.cli.exit_codes import TRAINING_LIBRARIES
from recipe_data import CLASSES, environment

SITECUSTOMIZE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by a test)", name=name)

sys.meta_path.insert(0, Absent())
"""
LABELS = ", ".join(CLASSES.values())


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an interpreter without the training libraries."""
    folder = tmp_path_factory.mktemp("light")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(blocked=set(TRAINING_LIBRARIES)))
    found = environment()
    return {**found, "PYTHONPATH": os.pathsep.join([str(folder), found["PYTHONPATH"]])}


@pytest.fixture(scope="module")
def files(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One image of each kind."""
    folder = tmp_path_factory.mktemp("files")
    png = next((small_world.parent / "data" / "images").glob("*.png"))
    Image.open(png).convert("RGB").save(folder / "image.jpg")
    volume = np.random.default_rng(0).integers(0, 1000, (12, 14, 10), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "volume.nii.gz")
    dicom = get_testdata_file("CT_small.dcm", download=False)
    return [str(png), str(folder / "image.jpg"), str(dicom), str(folder / "volume.nii.gz")]


def _call(environment_: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meddistill", *map(str, arguments)]
    return subprocess.run(command, env=environment_, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("library", ["torch", "sklearn", "pyarrow"])
def test_the_libraries_are_really_absent(light: dict[str, str], library: str) -> None:
    command = [sys.executable, "-c", f"import {library}"]
    done = subprocess.run(command, env=light, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "blocked by a test" in done.stderr


def test_classify_says_what_it_says_with_torch_installed(
    light: dict[str, str], finished_run: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["classify", str(finished_run / "bundle"), *files, "--labels", LABELS, "--format", "csv"]
    done = _call(light, *command)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["image"] for row in rows] == files
    for row in rows:
        assert row["best"] in CLASSES.values()
        assert sum(float(row[label]) for label in CLASSES.values()) == pytest.approx(1.0, abs=1e-4)
    assert main(command) == 0
    assert capsys.readouterr().out == done.stdout


def test_embed_images_and_texts(light: dict[str, str], finished_run: Path, files: list[str]) -> None:
    done = _call(light, "embed", finished_run / "bundle", *files, "--texts", "CT of the abdomen")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.get("image", row.get("text")) for row in rows] == [*files, "CT of the abdomen"]
    vectors = np.array([row["vector"] for row in rows])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    # PNG and JPEG show the same picture, the others something else.
    cosines = vectors[:4] @ vectors[0]
    assert cosines[1] > max(cosines[2:])


def test_a_recipe_says_what_to_install(light: dict[str, str], small_world: Path, tmp_path: Path) -> None:
    done = _call(light, "train", small_world, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert 'Install it with: pip install "meddistill[train]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_help_works(light: dict[str, str]) -> None:
    for arguments in (["--help"], ["teachers", "list"]):
        done = _call(light, *arguments)
        assert done.returncode == 0, done.stderr
