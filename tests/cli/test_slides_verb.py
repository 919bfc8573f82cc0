"""`meddistill slides tile`: tiles on disk, and a table of them that the other verbs read."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "imaging" / "slides"))
from tiny_slide import write_slide

from meddistill.data.config import TableConfig
from meddistill.data.table import read_table

pytest.importorskip("openslide")
Say = Callable[..., tuple[int, str, str]]
OPTIONS = ("--size", "32", "--quiet")


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    pixels = np.full((192, 192, 3), 240, np.uint8)
    pixels[64:192, 64:128] = (200, 90, 160)
    blank = np.full((192, 192, 3), 240, np.uint8)
    return [write_slide(tmp_path / "one.tif", pixels), write_slide(tmp_path / "two.tif", blank)]


def test_tiles_and_their_table(say: Say, slides: list[Path], tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("slide,patient,label\none.tif,anna,tumour\ntwo,bert,none\n")
    out = tmp_path / "tiles"
    code, said, _ = say("slides", "tile", *slides, "--out", out, "--table", known, *OPTIONS)
    assert code == 0
    assert "2 tiles of 2 slides" in said
    assert "two.tif: no tile" in said
    with (out / "tiles.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["x"], row["y"]) for row in rows] == [("64", "64"), ("64", "128")]
    assert {(row["slide"], row["patient"], row["label"]) for row in rows} == {("one", "anna", "tumour")}
    assert np.asarray(Image.open(out / rows[0]["image"])).shape == (32, 32, 3)
    config = TableConfig(table=Path("tiles.csv"), patient="patient")
    assert read_table(config, base=out, columns=["slide", "label"]).patients == ("anna", "anna")


def test_without_a_table_a_slide_is_a_patient(say: Say, slides: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    assert say("slides", "tile", slides[0], "--out", out, *OPTIONS)[0] == 0
    assert {row["patient"] for row in csv.DictReader((out / "tiles.csv").open())} == {"one"}


def test_mistakes_are_told(say: Say, slides: list[Path], tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("slide,label\none,tumour\n")
    twice = tmp_path / "twice.csv"
    twice.write_text("slide,label\none,tumour\none.tif,none\n")
    taken = tmp_path / "taken.csv"
    taken.write_text("slide,label,mpp,x\none,tumour,0.25,1\n")
    out = ("--out", tmp_path / "tiles")
    for arguments, words in (
        ((*slides, *out, "--table", known), "'two.tif' is not there"),
        ((slides[0], slides[0], *out), "different names"),
        ((slides[0], *out, "--table", twice), "'one' stands there more than once"),
        ((slides[0], *out, "--table", taken), "that tiles have themselves; got mpp, x"),
        ((slides[0], *out, "--tissue", "2"), "`tissue` must be in its range"),
        ((slides[0], *out, "--mpp", "0.1"), "must be as fine as its tiles"),
        ((slides[0], *out, "--table", tmp_path / "none.csv"), "readable CSV"),
        ((tmp_path / "none.svs", *out), "no such file"),
    ):
        code, _, said = say("slides", "tile", *arguments, *OPTIONS)
        assert code == 2, arguments
        assert words in said


def test_a_second_call_keeps_what_is_finished(say: Say, slides: list[Path], tmp_path: Path) -> None:
    """The table of slides may have changed; the tiles and what is told of them have not."""
    known, out = tmp_path / "known.csv", tmp_path / "tiles"
    known.write_text("slide,label\none,tumour\ntwo,none\n")
    assert say("slides", "tile", slides[0], "--out", out, "--table", known, *OPTIONS)[0] == 0
    before = (out / "one" / "64_64.png").stat().st_mtime_ns
    known.write_text("slide,label\none,normal\ntwo,none\n")
    code, said, told = say("slides", "tile", *slides, "--out", out, "--table", known, *OPTIONS)
    assert (code, "2 tiles of 2 slides" in said) == (0, True)
    assert "done already: 1 of 2 slides" in told
    assert (out / "one" / "64_64.png").stat().st_mtime_ns == before
    with (out / "tiles.csv").open() as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"normal"}
