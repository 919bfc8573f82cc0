"""Tissue, grid and resolution of tiles, on tiny slides that OpenSlide itself reads."""

from pathlib import Path

import numpy as np
import pytest
from tiny_slide import write_slide

from meddistill.errors import ImageError
from meddistill.imaging.slides import TileOptions, tiles_of
from meddistill.imaging.slides.slide import Slide
from meddistill.imaging.slides.tissue import closed, otsu, saturation, tissue_mask

pytest.importorskip("openslide")
PINK, GLASS = (200, 90, 160), (240, 240, 240)
RANDOM = np.random.default_rng(0)


def _scene(height: int = 300, width: int = 430) -> np.ndarray:
    """Glass with noise; tissue in columns 128 to 255, rows 64 to 255."""
    pixels = np.full((height, width, 3), GLASS, dtype=np.int64)
    pixels[64:256, 128:256] = PINK
    pixels += RANDOM.integers(-3, 4, size=(height, width, 1))
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "a.tif", _scene(), mpp=0.25)


@pytest.mark.parametrize("seed", range(4))
def test_otsu_by_its_definition(seed: int) -> None:
    """The least sum of squared deviations within the two parts, tried for every threshold."""
    random = np.random.default_rng(seed)
    values = np.concatenate([random.normal(60, 12, 300), random.normal(150, 20, 100 + 90 * seed)])
    values = values.clip(0, 255).astype(np.uint8)
    within = [
        sum(
            ((part - part.mean()) ** 2).sum()
            for part in (values[values <= t], values[values > t])
            if len(part)
        )
        for t in range(255)
    ]
    assert otsu(values) == int(np.argmin(within))


def test_otsu_of_one_value_and_of_two() -> None:
    assert otsu(np.full(9, 7, np.uint8)) == 255
    assert otsu(np.array([10, 10, 200], np.uint8)) == 10


def test_saturation_by_hand() -> None:
    picture = np.array([[[200, 100, 150], [255, 255, 255], [0, 0, 0], [10, 0, 5]]], np.uint8)
    assert saturation(picture).tolist() == [[127, 0, 0, 0]]


def test_an_empty_slide_has_no_tissue() -> None:
    glass = (np.array(GLASS) + RANDOM.integers(-4, 5, size=(50, 60, 3))).astype(np.uint8)
    assert not tissue_mask(glass).any()
    assert not tissue_mask(np.full((5, 5, 3), 255, np.uint8)).any()
    assert tissue_mask(_scene())[64:256, 128:256].all()


def test_closing_by_its_definition() -> None:
    mask = RANDOM.random((15, 17)) < 0.3
    around = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]

    def moved(picture: np.ndarray, everywhere: bool) -> np.ndarray:
        padded = np.pad(picture, 2, constant_values=everywhere)
        views = [padded[2 + i : 2 + i + 15, 2 + j : 2 + j + 17] for i, j in around]
        return np.all(views, axis=0) if everywhere else np.any(views, axis=0)

    np.testing.assert_array_equal(closed(mask, 2), moved(moved(mask, False), True))
    assert closed(np.zeros((1, 1), bool), 2).shape == (1, 1)


def test_tiles_lie_on_the_tissue(slide: Path) -> None:
    found = list(tiles_of(slide, TileOptions(size=32, mpp=0.5)))
    assert {(tile.x, tile.y) for tile in found} == {(x, y) for x in (128, 192) for y in (64, 128, 192)}
    for tile in found:
        assert tile.pixels.shape == (32, 32, 3)
        assert tile.tissue > 0.9
        assert np.abs(tile.pixels.astype(int) - PINK).max() <= 12


def test_every_tile_without_a_threshold_whole_ones_only(slide: Path) -> None:
    found = list(tiles_of(slide, TileOptions(size=32, mpp=0.5, tissue=0)))
    assert [(tile.x, tile.y) for tile in found] == [(64 * c, 64 * r) for r in range(4) for c in range(6)]
    assert list(tiles_of(slide, TileOptions(size=512, mpp=0.5, tissue=0))) == []


def test_pixels_are_those_of_the_slide(tmp_path: Path) -> None:
    """At the slide's own resolution to the last bit; at half of it the means of four pixels."""
    pixels = RANDOM.integers(0, 256, size=(128, 192, 3)).astype(np.uint8)
    path = write_slide(tmp_path / "noise.tif", pixels, mpp=0.25)
    for tile in tiles_of(path, TileOptions(size=64, mpp=0.25, tissue=0)):
        np.testing.assert_array_equal(tile.pixels, pixels[tile.y : tile.y + 64, tile.x : tile.x + 64])
    half = pixels.reshape(64, 2, 96, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    for tile in tiles_of(path, TileOptions(size=32, mpp=0.5, tissue=0)):
        x, y = tile.x // 2, tile.y // 2
        np.testing.assert_array_equal(tile.pixels, half[y : y + 32, x : x + 32])


def test_a_resolution_between_levels_keeps_content_in_place(slide: Path) -> None:
    """1.6 pixels a pixel: tiles of 40 span 64 pixels of the slide, as those of 32 at half resolution."""
    found = {(tile.x, tile.y) for tile in tiles_of(slide, TileOptions(size=40, mpp=0.4))}
    assert found == {(x, y) for x in (128, 192) for y in (64, 128, 192)}


def test_an_overview_is_the_whole_slide(slide: Path) -> None:
    with Slide(slide) as opened:
        picture = opened.overview(10.0)
        assert opened.mpp == (0.25, 0.25)
    assert picture.shape == (30, 43, 3)
    assert np.abs(picture[10, 20].astype(int) - PINK).max() < 10
    assert np.abs(picture[2, 40].astype(int) - GLASS).max() < 10


@pytest.mark.parametrize("mpp", [None, 353.0])
def test_a_slide_without_a_sensible_resolution_asks_for_one(tmp_path: Path, mpp: float | None) -> None:
    path = write_slide(tmp_path / "a.tif", _scene(), mpp=mpp)
    with pytest.raises(ImageError, match="slide_mpp"):
        next(tiles_of(path))
    found = list(tiles_of(path, TileOptions(size=32, mpp=0.5, slide_mpp=0.25)))
    assert len(found) == 6


def test_a_coarse_slide_is_not_enlarged(slide: Path) -> None:
    with pytest.raises(ImageError, match=r"got 0\.25"):
        next(tiles_of(slide, TileOptions(mpp=0.1)))


def test_a_slide_that_stops_being_readable_says_so_in_openslides_words(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openslide

    def fail(*_: object) -> None:
        message = "cannot read\nthis tile"
        raise openslide.OpenSlideError(message)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", fail)
    with pytest.raises(ImageError, match="got cannot read this tile"):
        Slide(slide).read((0, 0), (64, 64), (64, 64))


def test_what_is_no_slide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    for name, words in {"text.svs": "be a slide that OpenSlide reads", "none.svs": "no such file"}.items():
        with pytest.raises(ImageError, match=words):
            next(tiles_of(tmp_path / name))


def test_a_truncated_slide_is_refused(tmp_path: Path) -> None:
    whole = write_slide(tmp_path / "a.tif", _scene()).read_bytes()
    # The first tiles of level 0 point beyond the end of the file.
    broken = bytearray(whole)
    place = broken.find((8).to_bytes(4, "little") + (8 + 64 * 64 * 3).to_bytes(4, "little"))
    broken[place : place + 4] = (2**31 - 2).to_bytes(4, "little")
    (tmp_path / "b.tif").write_bytes(bytes(broken))
    with pytest.raises(ImageError, match="whole TIFF file; got one that ends before its pixels"):
        list(tiles_of(tmp_path / "b.tif", TileOptions(size=32, mpp=0.25, tissue=0)))
