"""Images that lie inside another file: decoded and named as if they were files of their own."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from dicom_files import dataset, write
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, FilePart, ImageRef, decode, file_part, image_key

BEFORE, AFTER = b"\x89PNG before " * 700, b"after" * 500
DEEP = np.random.default_rng(0).integers(0, 4000, (3, 40, 50)).astype(np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)


def _compressed(folder: Path, syntax: str, name: str) -> Path:
    made = dcmread(write(folder, dataset(DEEP), "plain.dcm"))
    if syntax == RLELossless:
        made.compress(RLELossless)
    else:
        made.file_meta.TransferSyntaxUID = syntax
    return write(folder, made, name)


def _tiff(folder: Path) -> Path:
    pages = [Image.fromarray(page) for page in DEEP]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    return folder / "a.tif"


def _picture(folder: Path, name: str) -> Path:
    Image.fromarray(COLOUR).save(folder / name)
    return folder / name


def _nifti(folder: Path, name: str) -> Path:
    nibabel.save(nibabel.Nifti1Image(DEEP.astype(np.int16), np.eye(4)), folder / name)
    return folder / name


@pytest.fixture(params=["at once", "through a window"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts are read whole; here, every test also reads them as large ones are read."""
    if request.param == "through a window":
        monkeypatch.setattr(file_part, "_AT_ONCE", 0)


KINDS = {
    "png": (lambda folder: _picture(folder, "a.png"), {}),
    "jpeg": (lambda folder: _picture(folder, "a.jpg"), {}),
    "bmp": (lambda folder: _picture(folder, "a.bmp"), {}),
    "tiff": (_tiff, {"frame": 2}),
    "dicom": (lambda folder: write(folder, dataset(DEEP)), {"frame": 2}),
    "deflated": (lambda folder: _compressed(folder, DeflatedExplicitVRLittleEndian, "d.dcm"), {}),
    "rle": (lambda folder: _compressed(folder, RLELossless, "r.dcm"), {"frame": 0}),
    "nifti": (lambda folder: _nifti(folder, "a.nii"), {"axis": 0, "slice": 1}),
    "nifti_gz": (lambda folder: _nifti(folder, "a.nii.gz"), {"axis": 1}),
}


def _part(loose: Path, *, cut: int = 0) -> FilePart:
    """The bytes of a file between others; `cut` of them are left out at the end."""
    content = loose.read_bytes()
    whole = loose.with_name("whole.bin")
    whole.write_bytes(BEFORE + content + AFTER)
    return FilePart(whole, loose.name, start=len(BEFORE), size=len(content) - cut)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_decoded_and_named_as_the_loose_file(tmp_path: Path, kind: str) -> None:
    make, selectors = KINDS[kind]
    loose = make(tmp_path)
    options = DecodeOptions(window=(2000, 3000))
    part, file = ImageRef(_part(loose), **selectors), ImageRef(loose, **selectors)
    assert np.array_equal(decode(part, options), decode(file, options))
    assert image_key(part, options) == image_key(file, options)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "dicom", "deflated"])
def test_a_part_never_reads_past_its_end(tmp_path: Path, kind: str) -> None:
    part = _part(KINDS[kind][0](tmp_path), cut=30)
    with pytest.raises(ImageError, match=r"whole\.bin/[\w.]+` must be a whole"):
        decode(ImageRef(part, frame=2 if kind == "dicom" else None))


def test_the_file_of_a_part_seeks_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(200)))
    part = FilePart(tmp_path / "x", "y", start=50, size=100)
    with part.open("rb") as file:
        assert file.read(3) == bytes([50, 51, 52])
        assert file.seek(-2, 2) == 98
        assert file.read() == bytes([148, 149])
        assert file.read() == b""
        assert file.seek(10) == 10
        assert file.seek(5, 1) == 15
        assert file.tell() == 15
        assert file.read(1) == bytes([65])
        file.seek(150)
        assert file.read() == b""
        with pytest.raises(ValueError, match=r"offset|negative"):
            file.seek(-1)
    assert file.closed
    assert part.read_bytes() == bytes(range(50, 150))


def test_an_archive_that_became_shorter_is_refused_not_hashed(tmp_path: Path) -> None:
    part = _part(_picture(tmp_path, "a.png"))
    part.whole.write_bytes(part.whole.read_bytes()[: part.start + part.size - 1])
    for use in (decode, image_key):
        with pytest.raises(ImageError, match=r"whole\.bin/a\.png` must lie inside its archive"):
            use(ImageRef(part))
    part.whole.unlink()
    for use in (decode, image_key):
        with pytest.raises(ImageError, match=r"whole\.bin/a\.png` must"):
            use(ImageRef(part))


def test_threads_and_copies_read_the_same(tmp_path: Path) -> None:
    part = ImageRef(_part(_picture(tmp_path, "a.png")))
    copy = pickle.loads(pickle.dumps(part))
    assert copy == part
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(each, COLOUR) for each in pool.map(decode, [part, copy] * 40))
