"""Images that cannot be decoded: found with all other mistakes, before anything is trained."""

import numpy as np
import pytest
from PIL import Image
from table_files import paint, paint_all, write_csv

from meddistill.data import unreadable
from meddistill.data.config import TableConfig
from meddistill.data.unreadable import read_readable
from meddistill.errors import TableError
from meddistill.imaging import Picture


@pytest.fixture
def table(tmp_path):
    """Rows 1, 2 and 5 are good (2 and 5 show pages of one file); the others are bad, each in its way."""
    path = paint_all(tmp_path, 1)[0]
    (tmp_path / "cut.png").write_bytes((tmp_path / path).read_bytes()[:60])
    pages = [Image.fromarray(np.full((4, 4), grey, np.uint8)) for grey in (0, 99)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    rows = [
        {"image": path, "frame": "", "text": "good"},
        {"image": "pages.tif", "frame": "1", "text": "good"},
        {"image": "cut.png", "frame": "", "text": "cut short"},
        {"image": "pages.tif", "frame": "2", "text": "a page too far"},
        {"image": "pages.tif", "frame": "0", "text": "good"},
        {"image": path, "frame": "0", "text": "a picture has no frames"},
        {"image": path, "frame": "", "text": ""},
        {"image": "cut.png", "frame": "", "text": "the same, cut short"},
    ]
    return write_csv(tmp_path / "t.csv", rows)


def config(**named):
    return TableConfig(table="t.csv", text="text", frame="frame", **named)


def test_cells_and_images_are_reported_together(table):
    with pytest.raises(TableError) as caught:
        read_readable(config(), base=table.parent)
    cell, cut, page, picture = caught.value.mistakes
    assert cell == "row 7 (line 8): `text` must hold a caption; got an empty one."
    assert cut.startswith("rows 3, 8: `")
    assert "cut.png` must be a whole PNG" in cut
    assert page.startswith("row 4: `")
    assert "pages.tif` must be read with a `frame` in [0, 1]; got 2" in page
    assert picture.startswith("row 6: `")
    assert "must be a kind of file that has a `frame`" in picture
    assert "`on_error: skip`" in str(caught.value).splitlines()[-1]


def test_skip_drops_what_cannot_be_decoded(table):
    samples = read_readable(config(on_error="skip"), base=table.parent)
    assert samples.rows == (1, 2, 5)
    assert samples.skipped_rows == (3, 4, 6, 7, 8)
    assert len(samples.skipped) == 4


def test_nothing_left_is_refused(table):
    paint(table.parent / "x.png", 1).write_bytes(b"no image")
    write_csv(table, [{"image": "x.png", "frame": "", "text": "a"}])
    with pytest.raises(TableError, match=r"row 1: .* must hold an image"):
        read_readable(config(on_error="skip"), base=table.parent)


def test_each_distinct_image_is_decoded_once(table, monkeypatch):
    seen = []
    black = Picture(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1)))
    monkeypatch.setattr(unreadable, "decode_beside", lambda *given: (seen.append(given), black)[1])
    samples = read_readable(config(on_error="skip"), base=table.parent)
    assert len(samples) == 7
    assert len(seen) == len(set(seen)) == 6
    assert {options for _, options in seen} == {samples.options}


def test_rows_of_one_bad_image_are_listed_up_to_five(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    table = write_csv(tmp_path / "t.csv", [{"image": "x.png"}] * 8)
    with pytest.raises(TableError) as caught:
        read_readable(TableConfig(table="t.csv"), base=table.parent)
    (line,) = caught.value.mistakes
    assert line.startswith("rows 1, 2, 3, 4, 5 and 3 more: `")
