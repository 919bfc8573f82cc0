"""Pictures that lost what their files store."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from dicom_files import dataset, write
from meddistill.imaging import DecodeOptions, ImageRef, Picture, decode_beside

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def _picture(greys: np.ndarray, stored: np.ndarray) -> Picture:
    return Picture(np.repeat(greys.astype(np.uint8)[:, :, None], 3, axis=2), stored)


@pytest.mark.parametrize("levels", [1, 3, 4, 256])
@pytest.mark.parametrize("values", [1, 15, 16, 4096])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_at_most_three_greys_of_sixteen_values_or_more(levels: int, values: int, kind: type) -> None:
    if kind is np.uint8 and values > 256:
        values = 256
    greys, stored = RAMP % levels, (RAMP % values).astype(kind)
    assert _picture(greys, stored).is_flat == (levels <= 3 and values >= 16)


def test_few_pixels_of_a_large_picture_count(tmp_path: Path) -> None:
    stored = np.zeros((3000, 2000), np.uint16)
    shown = np.zeros((3000, 2000), np.uint8)
    stored[1234, 100:116] = range(16)
    assert _picture(shown, stored).is_flat
    shown[1777, 1001:1004] = (50, 60, 70)
    assert not _picture(shown, stored).is_flat


def test_nan_is_no_value() -> None:
    stored = np.where(RAMP % 2, np.nan, RAMP % 30).astype(np.float32)
    assert not _picture(RAMP * 0, stored).is_flat


def test_colours_count_as_colours() -> None:
    indices = RAMP % 20
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    assert not Picture(colours[indices % 4], indices).is_flat
    assert Picture(colours[indices % 3], indices).is_flat


@pytest.mark.parametrize("kind", ["DICOM", "NIfTI", "PNG", "opacity", "shipped"])
def test_of_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    wide = DecodeOptions()
    path, narrow = tmp_path / "a", DecodeOptions(window=(-9000, 5))
    if kind == "DICOM":
        path = write(tmp_path, dataset(RAMP))
    elif kind == "NIfTI":
        path = tmp_path / "a.nii"
        nibabel.save(nibabel.Nifti1Image(RAMP[:, :, None].astype(np.int16), np.eye(4)), path)
    elif kind == "PNG":
        Image.fromarray(RAMP).save(path, format="PNG")
    elif kind == "opacity":
        opaque = np.stack([RAMP * 0, RAMP * 0, RAMP * 0, RAMP >> 4], axis=2).astype(np.uint8)
        Image.fromarray(opaque).save(path, format="PNG")
        assert decode_beside(ImageRef(path)).is_flat
        return
    else:
        folder = Path(get_testdata_file("CT_small.dcm", download=False)).parent
        found = next(folder.rglob("17166"), None)
        if found is None:
            pytest.skip("pydicom does not ship it here")
        assert decode_beside(ImageRef(found)).is_flat  # bone under a window for the brain
        assert not decode_beside(ImageRef(found), DecodeOptions(window=(1000, 3000))).is_flat
        return
    assert not decode_beside(ImageRef(path), wide).is_flat
    assert decode_beside(ImageRef(path), narrow).is_flat
