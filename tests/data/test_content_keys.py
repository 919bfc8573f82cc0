"""Keys of content, the groups they make, and the draws of which everything random is made."""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from table_files import paint, paint_all, read, write_csv

from meddistill.data import keys
from meddistill.data.draws import derive_seed, draw, unit_draw
from meddistill.data.keys import group_ids, image_keys, text_key, text_keys
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions


@pytest.fixture
def table(tmp_path):
    """Rows 1, 3 and 4 show one content (4 under another name), row 2 another one."""
    paths = paint_all(tmp_path, 2)
    shutil.copy(tmp_path / paths[0], tmp_path / "copy.dat")
    texts = ["A chest X-ray", "a CHEST\u00a0x-ray ", "&lt;none&gt;", "a chest xray"]
    images = [paths[0], paths[1], paths[0], "copy.dat"]
    rows = [{"image": image, "text": text} for image, text in zip(images, texts, strict=True)]
    return write_csv(tmp_path / "t.csv", rows)


def test_images_are_keyed_by_content(table):
    first, second, third, fourth = image_keys(read(table))
    assert first == third == fourth != second
    paint(table.parent / "images/1.png", 0)
    assert len(set(image_keys(read(table)))) == 1


def test_images_are_keyed_by_options_that_move_pixels(table):
    plain = image_keys(read(table))
    windowed = image_keys(read(table, decode=DecodeOptions(window=(40, 400))))
    assert not set(plain) & set(windowed)
    assert image_keys(read(table, decode=DecodeOptions(max_pixels=10**6))) == plain


def test_images_are_keyed_by_selectors(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), grey, np.uint8)) for grey in (0, 99)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    cells = [{"image": "pages.tif", "page": page} for page in ("0", "1", "1", "")]
    first, second, third, fourth = image_keys(read(write_csv(tmp_path / "t.csv", cells), frame="page"))
    assert second == third
    assert len({first, second, fourth}) == 3


def test_each_distinct_image_is_read_once(table, monkeypatch):
    seen = []
    monkeypatch.setattr(keys, "image_key", lambda ref, _: seen.append(ref) or ref.path.name)
    assert image_keys(read(table)) == ("0.png", "1.png", "0.png", "copy.dat")
    assert len(seen) == len(set(seen)) == 3


def test_an_image_that_vanished_is_told(table):
    samples = read(table)
    (table.parent / "copy.dat").unlink()
    with pytest.raises(ImageError, match=r"copy\.dat` must be a readable file"):
        image_keys(samples)


def test_captions_are_keyed_as_models_read_them(table):
    samples = read(table, text="text")
    first, second, third, fourth = text_keys(samples)
    assert first == second == hashlib.sha256(b"a chest x-ray").hexdigest()
    assert third == text_key("<NONE>")
    assert len({first, third, fourth}) == 3
    assert text_keys(read(table)) == ()


def test_groups_are_numbered_as_they_appear():
    numbers = group_ids(["b", "a", "b", "c", "a"])
    assert numbers.tolist() == [0, 1, 0, 2, 1]
    assert numbers.dtype == np.int64
    assert group_ids([]).shape == (0,)


def test_draws_are_these_in_every_process():
    code = "from meddistill.data.draws import draw; print(draw('split', 7, 'p\\u00e9'))"
    environment = {"PYTHONHASHSEED": "123"}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert int(other.stdout) == draw("split", 7, "pé") == 6077803119726996542


def test_draws_depend_on_every_part_and_are_uniform():
    assert len({draw("a", "b"), draw("ab"), draw("b", "a"), draw("a", "b", ""), draw("a", "B")}) == 5
    shares = np.array([unit_draw("share", i) for i in range(4000)])
    assert 0 <= shares.min() < 0.01
    assert 0.99 < shares.max() < 1
    counts = np.histogram(shares, bins=10, range=(0, 1))[0]
    assert counts.min() > 320
    assert counts.max() < 480
    assert draw("\udce9") != draw("é")


def test_seeds_depend_on_every_part_and_are_the_same_everywhere():
    parts = [("a", 1, 2), ("a", 2, 1), ("a", 12), ("b", 1, 2), ("a", "1", 2)]
    seeds = {derive_seed(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed("selection", 0, 0) == 5555069243260078110
