"""Images that were decoded once are not decoded again only to see whether they can be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meddistill.data import unreadable
from meddistill.data.config import TableConfig
from meddistill.data.decoded import DecodedImages
from meddistill.data.samples import row_notes
from meddistill.data.unreadable import read_readable
from meddistill.errors import TableError
from meddistill.imaging import DecodeOptions


@pytest.fixture
def table(tmp_path: Path) -> TableConfig:
    for number in range(6):
        pixels = np.full((8, 8, 3), 10 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    lines = ["image", *(f"{number}.png" for number in range(6))]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    return TableConfig(table="table.csv")


def _decoded(table: TableConfig, base: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files a reading decodes."""
    seen: list[str] = []
    real = unreadable.decode_beside
    with monkeypatch.context() as patch:
        patch.setattr(
            unreadable,
            "decode_beside",
            lambda ref, options: (seen.append(ref.path.name), real(ref, options))[1],
        )
        decoded = DecodedImages(base / "decoded_images")
        try:
            read_readable(table, base=base, decoded=decoded)
        except TableError as error:
            seen.append(str(len(error.mistakes)))
        decoded.write()
    return sorted(seen)


def test_only_new_and_changed_images_are_decoded(
    table: TableConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _decoded(table, tmp_path, monkeypatch) == [f"{number}.png" for number in range(6)]
    assert _decoded(table, tmp_path, monkeypatch) == []
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(tmp_path / "3.png")
    assert _decoded(table, tmp_path, monkeypatch) == ["3.png"]


def test_an_image_that_broke_is_found_every_time(
    table: TableConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _decoded(table, tmp_path, monkeypatch)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:40])
    for _ in range(2):
        assert _decoded(table, tmp_path, monkeypatch) == ["1", "2.png"]


def test_a_cut_file_costs_decoding_again(
    table: TableConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _decoded(table, tmp_path, monkeypatch)
    known = tmp_path / "decoded_images"
    known.write_bytes(known.read_bytes()[:70])
    assert len(_decoded(table, tmp_path, monkeypatch)) == 4


def test_flat_pictures_are_counted_every_time_and_kept(
    table: TableConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 50
    for name in ("1.png", "4.png"):
        Image.fromarray(deep).save(tmp_path / name)
    windowed = table.model_copy(update={"decode": DecodeOptions(window=(-5000, 10))})
    for _ in range(2):
        decoded = DecodedImages(tmp_path / "decoded_images")
        samples = read_readable(windowed, base=tmp_path, decoded=decoded)
        decoded.write()
        assert (len(samples), samples.flat_rows) == (6, (2, 5))
    assert samples.take([1, 2]).flat_rows == (2,)
    (note,) = row_notes(samples, "table of tests")
    assert "table of tests" in note
    assert "2 rows (rows 2, 5)" in note
    assert _decoded(windowed, tmp_path, monkeypatch) == ["1.png", "4.png"]
    assert read_readable(table, base=tmp_path).flat_rows == ()
