"""Label maps keep the values that were drawn."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from meddistill.errors import ImageError
from meddistill.imaging import Geometry, ImageRef, decode, rasterize, seen_box
from meddistill.imaging.label_maps import decode_labels
from meddistill.imaging.options import DecodeOptions

LABELS = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)


def _saved(folder: Path, image: Image.Image, name: str = "m.png") -> ImageRef:
    image.save(folder / name)
    return ImageRef(folder / name)


def test_values_are_kept_whatever_the_mode(tmp_path: Path) -> None:
    palette = Image.fromarray(LABELS, mode="L").convert("P")
    palette.putdata(LABELS.flatten().tolist())
    palette.putpalette([(7 * index) % 256 for index in range(768)])
    for name, image in {
        "grey.png": Image.fromarray(LABELS),
        "deep.png": Image.fromarray(LABELS.astype(np.uint16)),
        "grey.tif": Image.fromarray(LABELS),
        "grey.bmp": Image.fromarray(LABELS),
        "palette.png": palette,
    }.items():
        found = decode_labels(_saved(tmp_path, image, name))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, LABELS, err_msg=name)
    bits = decode_labels(_saved(tmp_path, Image.fromarray(LABELS > 0), "bits.png"))
    np.testing.assert_array_equal(bits, LABELS > 0)


def test_a_slice_of_a_volume_stands_as_its_image_does(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 4, size=(5, 6, 7)).astype(np.float32)
    affine = np.diag([-1.0, 1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "m.nii.gz")
    nibabel.save(nibabel.Nifti1Image(volume * 80, affine), tmp_path / "i.nii.gz")
    options = DecodeOptions(window=(120, 240))
    for axis, number in ((None, None), (0, 2), (1, 0), (2, 6)):
        labels = decode_labels(ImageRef(tmp_path / "m.nii.gz", axis=axis, slice=number), options)
        shown = decode(ImageRef(tmp_path / "i.nii.gz", axis=axis, slice=number), options)
        np.testing.assert_array_equal(labels, np.rint(shown[..., 0] / 85))


def test_a_picture_beside_a_slice_ignores_its_selectors(tmp_path: Path) -> None:
    ref = _saved(tmp_path, Image.fromarray(LABELS))
    np.testing.assert_array_equal(decode_labels(ImageRef(ref.path, axis=2, slice=3, frame=1)), LABELS)


@pytest.mark.parametrize(
    ("name", "image", "words"),
    [
        ("m.jpg", Image.fromarray(LABELS), "got a JPEG"),
        ("m.png", Image.new("RGB", (3, 2)), "one channel; got RGB"),
        ("m.png", Image.new("LA", (3, 2)), "one channel; got LA"),
        ("m.png", Image.fromarray(LABELS.astype(np.uint16) * 2), "values from 0 to 510"),
        ("m.tif", Image.fromarray(LABELS.astype(np.float32) / 2), "got fractions"),
        ("m.tif", Image.fromarray(LABELS.astype(np.float32) * np.nan), "NaN"),
        ("m.tif", Image.fromarray(LABELS.astype(np.float32) - 1), "values from -1 to 254"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, name: str, image: Image.Image, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_labels(_saved(tmp_path, image, name))


def test_damage_and_size_are_refused(tmp_path: Path) -> None:
    ref = _saved(tmp_path, Image.fromarray(np.tile(LABELS, (40, 40))))
    with pytest.raises(ImageError, match="at most 100 pixels"):
        decode_labels(ref, DecodeOptions(max_pixels=100))
    path = tmp_path / "m.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match="be a whole"):
        decode_labels(ref)
    with pytest.raises(ImageError, match="must exist"):
        decode_labels(ImageRef(tmp_path / "none.png"))


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(60, 90), (91, 60), (64, 64), (33, 100)])
@pytest.mark.parametrize("target", [(32, 32), (24, 40)])
def test_the_box_that_a_raster_shows(resize: str, shape: tuple[int, int], target: tuple[int, int]) -> None:
    """Ramps tell where the raster's pixels come from: value 2 a pixel, so that rounding costs 1/4 pixel."""
    geometry = Geometry(*target, resize, "bilinear")
    top, left, bottom, right = seen_box(*shape, geometry)
    ramps = np.zeros((*shape, 3), dtype=np.uint8)
    ramps[..., 0] = 2 * np.arange(shape[0])[:, None] + 20
    ramps[..., 1] = 2 * np.arange(shape[1])[None] + 20
    raster = rasterize(ramps, geometry).astype(float)
    rows = top + (np.arange(target[0]) + 0.5) * (bottom - top) / target[0]
    columns = left + (np.arange(target[1]) + 0.5) * (right - left) / target[1]
    inner_rows = np.flatnonzero((rows > 4) & (rows < shape[0] - 4))
    inner_columns = np.flatnonzero((columns > 4) & (columns < shape[1] - 4))
    middle_row, middle_column = inner_rows[len(inner_rows) // 2], inner_columns[len(inner_columns) // 2]
    seen_rows = (raster[inner_rows, middle_column, 0] - 20) / 2 + 0.5
    seen_columns = (raster[middle_row, inner_columns, 1] - 20) / 2 + 0.5
    np.testing.assert_allclose(seen_rows, rows[inner_rows], atol=0.6)
    np.testing.assert_allclose(seen_columns, columns[inner_columns], atol=0.6)
    outside = (rows < -1) | (rows > shape[0] + 1)
    assert not raster[outside].any()
