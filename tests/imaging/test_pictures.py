"""PNG, JPEG, TIFF and BMP."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)
DEEP = np.arange(54, dtype=np.uint16).reshape(6, 9) * 60  # twelve bits of sixteen, as X-ray exports have


def _save(folder: Path, array: np.ndarray, name: str, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
def test_lossless_files_give_their_own_pixels(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    shown = decode(ImageRef(_save(tmp_path, array, f"a.{suffix}")))
    assert shown.dtype == np.uint8
    assert shown.shape == (6, 9, 3)
    assert np.array_equal(shown, array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_other_modes_equal_pillows_conversion(tmp_path: Path, mode: str, suffix: str) -> None:
    path = _save(tmp_path, COLOUR, f"a.{suffix}", mode)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(decode(ImageRef(path)), expected)


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    alpha = np.zeros((6, 9, 1), np.uint8)
    path = _save(tmp_path, np.concatenate([COLOUR, alpha], axis=2), "a.png")
    assert np.array_equal(decode(ImageRef(path)), COLOUR)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_grey_is_stretched_by_percentiles(tmp_path: Path, suffix: str) -> None:
    shown = decode(ImageRef(_save(tmp_path, DEEP, f"a.{suffix}")))[:, :, 0]
    low, high = np.percentile(DEEP, (0.5, 99.5))
    expected = np.rint(np.clip((DEEP - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(shown, expected)
    assert (shown.min(), shown.max()) == (0, 255)


def test_deep_grey_obeys_a_window(tmp_path: Path) -> None:
    shown = decode(ImageRef(_save(tmp_path, DEEP, "a.png")), DecodeOptions(window=(1000, 1000)))[:, :, 0]
    assert np.all(shown[DEEP <= 500] == 0)
    assert np.all(shown[DEEP >= 1500] == 255)
    assert shown[DEEP == 1020] == round(520 / 1000 * 255)


def test_nearly_empty_deep_grey_shows_what_there_is(tmp_path: Path) -> None:
    array = np.zeros((100, 100), np.uint16)
    array[3, 4] = 500
    shown = decode(ImageRef(_save(tmp_path, array, "a.png")))[:, :, 0]
    assert shown[3, 4] == 255
    assert shown.sum() == 255


def test_constant_deep_grey_is_black(tmp_path: Path) -> None:
    assert not decode(ImageRef(_save(tmp_path, np.full((5, 5), 900, np.uint16), "a.png"))).any()


def test_deep_white_is_zero_tiff_is_inverted(tmp_path: Path) -> None:
    plain = decode(ImageRef(_save(tmp_path, DEEP, "a.tif")))
    inverted = decode(ImageRef(_save(tmp_path, DEEP, "b.tif", tiffinfo={262: 0})))
    assert np.array_equal(inverted, 255 - plain)


def test_float_tiff_with_nan_is_refused_or_black(tmp_path: Path) -> None:
    array = np.linspace(0, 1, 54, dtype=np.float32).reshape(6, 9)
    array[0, 5] = np.nan
    ref = ImageRef(_save(tmp_path, array, "a.tif"))
    with pytest.raises(ImageError, match="must hold finite values"):
        decode(ref)
    shown = decode(ref, DecodeOptions(non_finite="black"))[:, :, 0]
    assert shown[0, 5] == 0
    assert shown[5, 8] == 255


def test_jpeg_is_turned_upright(tmp_path: Path) -> None:
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    shown = decode(ImageRef(_save(tmp_path, array, "a.jpg", exif=exif)))
    assert shown.shape == (32, 16, 3)
    assert shown[4, 8, 0] > 250
    assert shown[28, 8, 0] < 5


def test_damaged_exif_leaves_the_pixels(tmp_path: Path) -> None:
    path = _save(tmp_path, COLOUR, "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(ImageRef(path)).shape == (6, 9, 3)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    assert decode(ImageRef(_save(tmp_path, COLOUR, "a.jpg", "CMYK"))).shape == (6, 9, 3)


def test_frame_selects_a_page_of_a_tiff(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 20, 30)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert [int(decode(ImageRef(path, frame=page))[0, 0, 0]) for page in (None, 0, 1, 2)] == [10, 10, 20, 30]
    for page in (3, -1):
        with pytest.raises(ImageError, match=r"`frame` in \[0, 2\]; got " + str(page)):
            decode(ImageRef(path, frame=page))


def test_kind_comes_from_content_not_name(tmp_path: Path) -> None:
    path = _save(tmp_path, COLOUR, "a.png").rename(tmp_path / "a.dcm")
    assert np.array_equal(decode(ImageRef(path)), COLOUR)


@pytest.mark.parametrize("selector", ["frame", "axis", "slice"])
def test_selectors_of_other_kinds_are_refused(tmp_path: Path, selector: str) -> None:
    path = _save(tmp_path, COLOUR, "a.png")
    with pytest.raises(
        ImageError, match=f"has a `{selector}`; got a PNG, JPEG or BMP. Leave `{selector}` empty"
    ):
        decode(ImageRef(path, **{selector: 0}))


def test_the_result_is_the_callers_own(tmp_path: Path) -> None:
    ref = ImageRef(_save(tmp_path, GREY, "a.png"))
    decode(ref)[:] = 7
    assert np.array_equal(decode(ref)[:, :, 1], GREY)
