"""Cutting slides into folders of tiles: what was stopped goes on, and ends as if it had not been stopped."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_slide import write_slide

from meddistill.errors import UserError
from meddistill.imaging.slides import TileOptions, cut_slides, cutting, known_slides, tiles_table
from meddistill.imaging.slides.slide import Slide
from recording_progress import RecordingProgress

pytest.importorskip("openslide")
OPTIONS = TileOptions(size=32, mpp=0.5)
TABLE = "tiles.csv"


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    """Four slides; tissue in one to four tiles of 32 pixels at 0.5 micrometres."""
    found = []
    for number in range(4):
        pixels = np.full((320, 128, 3), 240, np.uint8)
        pixels[64 : 128 + 64 * number, 64:128] = (200, 90 + number, 160)
        found.append(write_slide(tmp_path / f"s{number}.tif", pixels))
    return found


def _cut(slides: list[Path], out: Path, options: TileOptions = OPTIONS) -> RecordingProgress:
    """Cut and write the table, as the verb does."""
    told = RecordingProgress()
    cut = cut_slides(slides, out, options, progress=told)
    (out / TABLE).write_bytes(tiles_table(cut, known_slides(slides, None), mpp=options.mpp))
    return told


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _killed(slides: list[Path], out: Path, monkeypatch: pytest.MonkeyPatch, *, at: str, tile: int) -> None:
    """Stop within slide `at`, after its first `tile` tiles."""
    read = Slide.read
    left = [tile]

    def stops(self: Slide, corner: tuple[int, int], extent: tuple[float, float], size: tuple[int, int]):
        if self.path.stem == at and size == (32, 32):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        return read(self, corner, extent, size)

    with monkeypatch.context() as patch:
        patch.setattr(Slide, "read", stops)
        with pytest.raises(KeyboardInterrupt):
            _cut(slides, out)


def test_what_was_stopped_goes_on(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _cut(slides, tmp_path / "whole")
    assert told.messages == []
    assert told.bars == {
        "slides": ("slides", 4, 4),
        **{f"slide {n} of 4": ("tiles", n, n) for n in (1, 2, 3, 4)},
    }
    out = tmp_path / "stopped"
    _killed(slides, out, monkeypatch, at="s2", tile=2)
    assert not (out / TABLE).exists()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("s[01]/*")}
    assert len(times) == 1 + 2 + 2
    told = _cut(slides, out)
    assert told.messages == ["done already: 2 of 4 slides"]
    assert set(told.bars) == {"slides", "slide 3 of 4", "slide 4 of 4"}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert _content(out) == _content(tmp_path / "whole")


def test_what_is_finished_is_not_opened(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _cut(slides, tmp_path / "out")
    before = _content(tmp_path / "out")
    monkeypatch.setattr(cutting, "Slide", None)
    again = _cut(slides, tmp_path / "out")
    assert (first.messages, again.messages) == ([], ["done already: 4 of 4 slides"])
    assert _content(tmp_path / "out") == before


@pytest.mark.parametrize("way", ["touched", "lost tile", "damaged", "other slide"])
def test_a_slide_that_is_not_as_it_was_is_cut_anew(slides: list[Path], tmp_path: Path, way: str) -> None:
    _cut(slides, tmp_path / "out")
    folder = tmp_path / "out" / "s3"
    if way == "touched":
        os.utime(slides[3], ns=(1, 1))
    elif way == "lost tile":
        (folder / "64_64.png").unlink()
    elif way == "damaged":
        text = (folder / "tiles.json").read_text()
        (folder / "tiles.json").write_text(text.replace('"y": 64', '"y": 65'))
    else:
        slides[3].write_bytes(slides[0].read_bytes())
    told = _cut(slides, tmp_path / "out")
    assert told.messages == ["done already: 3 of 4 slides"]
    _cut(slides, tmp_path / "fresh")
    assert _content(tmp_path / "out") == _content(tmp_path / "fresh")


def test_other_options_leave_nothing_of_the_first(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped amid other options: neither those nor the first ones are then taken for finished."""
    out, coarse = tmp_path / "out", TileOptions(size=16, mpp=1.0)
    (out / "s1").mkdir(parents=True)
    (out / "s1" / "notes.png").write_bytes(b"not ours")
    _cut(slides, out, coarse)
    _killed(slides, out, monkeypatch, at="s1", tile=1)
    assert not (out / TABLE).exists()
    assert (out / "s1" / "64_64.png").exists()
    assert _cut(slides, out, coarse).messages == ["done already: 2 of 4 slides"]
    (out / "s1" / "notes.png").unlink()
    _cut(slides, tmp_path / "fresh", coarse)
    assert _content(out) == _content(tmp_path / "fresh")
    fine = TileOptions(size=64, mpp=0.25)
    _cut(slides, out, fine)
    assert (out / "s0" / "64_64.png").read_bytes()[16:24] == b"\0\0\0\x40\0\0\0\x40"
    _cut(slides, out, TileOptions(size=48, mpp=0.25))
    assert not (out / "s0" / "64_64.png").exists()


def test_a_slide_without_tissue_is_finished_too(tmp_path: Path) -> None:
    blank = write_slide(tmp_path / "blank.tif", np.full((128, 128, 3), 240, np.uint8))
    assert _cut([blank], tmp_path / "out").bars["slide 1 of 1"] == ("tiles", 0, 0)
    assert _cut([blank], tmp_path / "out").messages == ["done already: 1 of 1 slides"]
    assert (tmp_path / "out" / TABLE).read_text().count("\n") == 1


def test_a_full_disk_is_told_and_work_goes_on_later(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.parent.name == "s1":
            write(self, content[:20])
            raise OSError(errno.ENOSPC, "full")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="disk with room"):
            _cut(slides, tmp_path / "out")
    assert _cut(slides, tmp_path / "out").messages == ["done already: 1 of 4 slides"]
    _cut(slides, tmp_path / "fresh")
    assert _content(tmp_path / "out") == _content(tmp_path / "fresh")


def test_a_slide_whose_name_is_no_utf8_has_tiles_in_a_table_that_is(
    slides: list[Path], tmp_path: Path
) -> None:
    odd = slides[1].rename(tmp_path / "r\udcf8ntgen.tif")
    _cut([odd], tmp_path / "out")
    lines = (tmp_path / "out" / TABLE).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3
    assert (tmp_path / "out" / lines[1].split(",")[0]).is_file()
