"""`meddistill classify` and `embed` from the outside; and that they load no torch."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import add_int8_towers

from dicom_files import dataset, write
from meddistill.cli import main
from meddistill.cli.bundles import split_labels

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}
WINDOW = {"WindowCenter": 30, "WindowWidth": 100}
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(paint: Callable[..., Path]) -> list[str]:
    return [str(paint(name, colour)) for name, colour in COLOURS.items()]


@pytest.mark.parametrize("more", [["--format", "table"], ["--format", "json"], ["--format", "csv"]])
def test_names_that_are_no_utf8_are_printed(
    monkeypatch: pytest.MonkeyPatch, bundle_folder: Path, images: list[str], more: list[str]
) -> None:
    """On a terminal in UTF-8, which is strict; JSON gives the very name back."""
    odd = Path(images[0]).rename(Path(images[0]).with_name("th\udcf8rax.png"))
    command = [str(bundle_folder), str(odd)]
    for arguments in (["classify", *command, "--labels", "red, green", *more], ["embed", *command]):
        written = io.BytesIO()
        stream = io.TextIOWrapper(written, encoding="utf-8", errors="strict")
        monkeypatch.setattr("sys.stdout", stream)
        assert main(arguments) == 0
        monkeypatch.undo()
        out = written.getvalue().decode("utf-8")
        assert "th\\udcf8rax.png" in out
        if "embed" in arguments or "json" in more:
            (first,) = [json.loads(out)] if "embed" in arguments else json.loads(out)
            assert Path(first["image"]).samefile(odd)


def test_a_list_of_names_that_are_no_utf8_is_json(
    tmp_path: Path, bundle_folder: Path, images: list[str]
) -> None:
    odd = Path(images[0]).rename(Path(images[0]).with_name("th\udcf8rax.png"))
    assert main(["embed", str(bundle_folder), str(odd), "--output", str(tmp_path / "v.npy")]) == 0
    (named,) = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert Path(named["image"]).samefile(odd)


def test_classify_as_lines(say: Say, bundle_folder: Path, images: list[str]) -> None:
    code, out, err = say("classify", bundle_folder, *images, "--labels", "red, green, blue")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == images
    assert [line.partition(": ")[2].split()[0] for line in lines] == list(COLOURS)


def test_classify_as_json_and_csv(say: Say, bundle_folder: Path, images: list[str]) -> None:
    command = ["classify", bundle_folder, *images, "--labels", "red, green, blue", "--templates", "a {}"]
    rows = json.loads(say(*command, "--format", "json")[1])
    assert [row["best"] for row in rows] == list(COLOURS)
    table = list(csv.DictReader(io.StringIO(say(*command, "--format", "csv")[1])))
    assert [row["image"] for row in table] == images
    for row, other in zip(rows, table, strict=True):
        assert {label: float(other[label]) for label in COLOURS} == pytest.approx(row["scores"], abs=1e-5)


def test_users_mistakes_have_code_two_and_one_message(
    say: Say, bundle_folder: Path, images: list[str]
) -> None:
    cases = [
        (["classify", bundle_folder, *images, "--labels", "red"], "at least two classes"),
        (["classify", bundle_folder.parent, *images, "--labels", "red, blue"], "manifest.json` must exist"),
        (["classify", bundle_folder, "missing.png", "--labels", "red, blue"], "`missing.png` must exist"),
        (["classify", bundle_folder, *images, "--labels", "red, blue", "--frame", 1], "Leave `frame` empty"),
        (["classify", bundle_folder, "x.png", "--labels", "a, b", "--on-error", "skip"], "None of 1 images"),
        (["embed", bundle_folder], "name at least one image"),
        (["embed", bundle_folder, "--texts", "red", "--output", "x.txt"], "must end in .npy"),
    ]
    for command, message in cases:
        code, out, err = say(*command)
        assert (code, out) == (2, ""), command
        assert message in err
        assert "Traceback" not in err


def test_prepared_prompts_stand_in_for_labels(say: Say, bundle_folder: Path, images: list[str]) -> None:
    command = ["classify", bundle_folder, *images]
    code, _, err = say(*command)
    assert (code, "--labels" in err, "--task" in err) == (2, True, False)
    vectors = [[0, 0, 1], [1, 0, 0]]  # of other colours than their labels, so that their use shows
    prompts = {"labels": ["red", "green"], "templates": ["{}"], "prompts": [["red"], ["green"]]}
    (bundle_folder / "prompts").mkdir()
    (bundle_folder / "prompts" / "colours.json").write_text(json.dumps({**prompts, "vectors": vectors}))
    add_int8_towers(bundle_folder)
    code, _, err = say(*command)
    assert (code, "--labels" in err, "`--task` with prompts of the bundle: colours" in err) == (2, True, True)
    for wrong, words in (
        (["--task", "shapes"], "Name one of colours"),
        (["--task", "colours", "--labels", "red, green"], "Leave one out"),
        (["--task", "colours", "--templates", "a {}"], "`--templates` must be left out"),
    ):
        code, _, err = say(*command, *wrong)
        assert (code, words in err) == (2, True), err
    code, out, err = say(*command, "--task", "colours", "--format", "json")
    assert code == 0, err
    assert [row["scores"]["green"] > 0.9 for row in json.loads(out)] == [True, False, False]
    # The prepared vectors are the float tower's; that in 8 bits takes red for green.
    out = say(*command, "--task", "colours", "--format", "json", "--precision", "int8")[1]
    assert [row["scores"]["red"] > 0.9 for row in json.loads(out)] == [False, True, False]


def test_skipped_images_are_told(say: Say, bundle_folder: Path, images: list[str]) -> None:
    command = ["classify", bundle_folder, "missing.png", *images, "--labels", "red, blue"]
    code, out, err = say(*command, "--on-error", "skip")
    assert (code, len(out.splitlines())) == (0, 3)
    assert err.startswith("Skipped: `missing.png` must exist")


def test_flat_pictures_are_told_and_change_nothing_else(
    say: Say, bundle_folder: Path, images: list[str], tmp_path: Path
) -> None:
    flat = tmp_path / "flat.dcm"
    # A brain's window on values far above it, as of a detail that holds bone alone.
    write(tmp_path, dataset(np.arange(3000, 3400, dtype=np.uint16).reshape(20, 20), **WINDOW), flat.name)
    labels = ("--labels", "red, blue")
    quiet, told = (say("classify", bundle_folder, *names, *labels) for names in (images, [*images, flat]))
    assert quiet[2] == ""
    assert (told[0], told[1].splitlines()[:3]) == (0, quiet[1].splitlines())
    assert "1 image shows" in told[2]
    assert str(flat) in told[2]
    code, _, err = say("embed", bundle_folder, flat, *images)
    assert (code, err) == (0, told[2])


def test_embed_to_stdout_and_to_a_file(
    say: Say, bundle_folder: Path, images: list[str], tmp_path: Path
) -> None:
    command = ["embed", bundle_folder, *images, "--texts", "red", "--texts", "blue"]
    lines = [json.loads(line) for line in say(*command)[1].splitlines()]
    assert [line.get("image", line.get("text")) for line in lines] == [*images, "red", "blue"]
    output = tmp_path / "out" / "vectors.npy"
    code, out, _ = say(*command, "--output", output)
    assert code == 0
    assert "5 vectors of 3" in out
    assert np.allclose(np.load(output), [line["vector"] for line in lines], atol=1e-6)
    assert json.loads(output.with_suffix(".json").read_text())[3] == {"text": "red"}


def test_labels_with_commas() -> None:
    assert split_labels('head CT, "chest, frontal", x') == ["head CT", "chest, frontal", "x"]


NO_TORCH = """
import sys
from meddistill.cli import main
import meddistill.runtime, meddistill.imaging
code = main(sys.argv[1:])
assert code == 0, code
heavy = {"torch", "open_clip", "transformers", "timm", "sklearn", "pyarrow"} & set(sys.modules)
assert not heavy, heavy
"""


def test_no_torch(bundle_folder: Path, images: list[str]) -> None:
    from pydicom.data import get_testdata_file

    scan = get_testdata_file("CT_small.dcm", download=False)
    command = ["classify", str(bundle_folder), *images, scan, "--labels", "red, green, blue"]
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
