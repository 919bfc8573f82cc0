"""Files that are no images, damaged ones, bombs; and that nothing of a header leaks."""

import gzip
import os
import struct
import subprocess
import sys
import traceback
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import RLELossless

from dicom_files import PLANTED, dataset, write
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode, image_key

PIXELS = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)


def _picture(folder: Path, suffix: str, **options: object) -> Path:
    path = folder / f"whole.{suffix}"
    Image.fromarray((PIXELS >> 4).astype(np.uint8)).convert("RGB").save(path, **options)
    return path


def _nifti(folder: Path, suffix: str) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.stack([PIXELS] * 4, axis=2), np.eye(4)), folder / f"whole.{suffix}")
    return folder / f"whole.{suffix}"


def _compressed(folder: Path) -> Path:
    made = dataset(PIXELS, WindowCenter=2000, WindowWidth=4000)
    made.compress(RLELossless)
    return write(folder, made)


WHOLE: dict[str, Callable[[Path], Path]] = {
    "png": lambda folder: _picture(folder, "png"),
    "jpeg": lambda folder: _picture(folder, "jpg"),
    "tiff": lambda folder: _picture(folder, "tif"),
    "tiff_lzw": lambda folder: _picture(folder, "tif", compression="tiff_lzw"),
    "bmp": lambda folder: _picture(folder, "bmp"),
    "dicom": lambda folder: write(folder, dataset(PIXELS, WindowCenter=2000, WindowWidth=4000)),
    "dicom_run_lengths": lambda folder: _compressed(folder),
    "nifti": lambda folder: _nifti(folder, "nii"),
    "nifti_gz": lambda folder: _nifti(folder, "nii.gz"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_truncated(tmp_path: Path, kind: str, share: float) -> None:
    path = WHOLE[kind](tmp_path)
    whole = path.read_bytes()
    middle = 2 if kind.startswith("nifti") else None  # needs most of the file
    assert decode(ImageRef(path)).shape == (64, 64, 3)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ImageError, match=r"must be a whole .* got one .* Copy the file again"):
        decode(ImageRef(path, slice=middle and 3))


@pytest.mark.parametrize("kind", WHOLE)
def test_any_flipped_bytes_give_a_picture_or_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = WHOLE[kind](tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 2000), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            shown = decode(ImageRef(path), DecodeOptions(max_pixels=10_000_000, max_voxels=10_000_000))
        except ImageError:
            continue
        assert shown.dtype == np.uint8
        assert shown.shape[2] == 3


def _patch(path: Path, place: int, content: bytes) -> Path:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)
    return path


def _odd(folder: Path, name: str) -> Path:
    """A whole file of a kind that nobody here reads, or a damaged one of its whole length."""
    if name == "chunk":
        path = _picture(folder, "png")
        return _patch(path, path.read_bytes().index(b"IDAT") + 40, b"\0\0\0\0")
    if name == "JPEG of 12 bits":
        path = _picture(folder, "jpg")
        return _patch(path, path.read_bytes().index(b"\xff\xc0") + 4, b"\x0c")
    if name == "gzip block":
        path = folder / "a.nii.gz"
        path.write_bytes(gzip.compress(_nifti(folder, "nii").read_bytes(), mtime=0))
        return _patch(path, 10, b"\xff\xff\xff\xff")  # no kind of block begins so
    if name == "ends of lines":
        path = folder / "two.nii"
        nibabel.save(nibabel.Nifti2Image(np.stack([PIXELS] * 4, axis=2), np.eye(4)), path)
        return _patch(path, 8, b"\n\n\x1a\n")
    if name == "vox_offset":
        return _patch(_nifti(folder, "nii"), 108, struct.pack("<f", 0))
    made = dataset(PIXELS)
    made.compress(RLELossless)
    path = write(folder, made)
    if name == "item":
        return _patch(path, path.read_bytes().rindex(b"\xfe\xff\xdd\xe0"), b"\1\2\3\4")
    return _patch(path, path.read_bytes().rindex(b"\xfe\xff\x00\xe0") + 8, b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    ("name", "message", "damaged"),
    [
        ("chunk", "chunk whose checksum differs", True),
        ("JPEG of 12 bits", "PNG", False),
        ("gzip block", "compressed data are broken or end early", True),
        ("ends of lines", "copied as text", True),
        ("vox_offset", "byte 352 or later", False),
        ("item", "no row of items", True),
        ("run lengths", "does not begin as one", True),
    ],
)
def test_damage_is_said_where_it_is_shown_and_nowhere_else(
    tmp_path: Path, name: str, message: str, *, damaged: bool
) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        decode(ImageRef(_odd(tmp_path, name), slice=3 if name == "gzip block" else None))
    assert ("must be a whole" in str(caught.value)) == damaged


def test_remedies_work(tmp_path: Path) -> None:
    assert decode(ImageRef(_patch(_odd(tmp_path, "vox_offset"), 108, struct.pack("<f", 352)))).any()
    path = _compressed(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[whole.index(b"\x08\x00\x16\x00UI") :])
    with pytest.raises(ImageError, match=r"name the transfer syntax .* with its file meta information"):
        decode(ImageRef(path))
    path.write_bytes(whole)
    with pytest.raises(ImageError, match="Raise `max_pixels`"):
        decode(ImageRef(path), DecodeOptions(max_pixels=4095))
    assert decode(ImageRef(path), DecodeOptions(max_pixels=4096)).any()


def _case(folder: Path, name: str) -> Path:
    path = folder / "scan.png"
    contents = {
        "zero bytes": b"",
        "text": b"this is no image, whatever its name says\n" * 3,
        "text cut inside a character": b"a" * 543 + "ü".encode(),
        "binary": bytes(range(7, 200)),
        "gzip of text": gzip.compress(b"text" * 200),
        "damaged gzip": b"\x1f\x8b" + bytes(30),
        "signature alone": b"\x89PNG\r\n\x1a\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    if name in contents:
        path.write_bytes(contents[name])
    elif name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "null character":
        return Path("scan\0.png")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "must exist; got no such file"),
        ("null character", "must (exist|be readable)"),
        ("folder", "must be a file; got a folder"),
        ("pipe", "must exist; got no such file"),
        ("zero bytes", "must hold an image; got 0 bytes"),
        ("text", "must hold an image; got text. PNG, JPEG, TIFF, BMP, DICOM and NIfTI"),
        ("text cut inside a character", "got text"),
        ("binary", "got something else"),
        ("gzip of text", "got a gzip file without NIfTI inside"),
        ("damaged gzip", "must be a whole gzip file"),
        ("signature alone", "must be a whole PNG, JPEG, TIFF or BMP file"),
        ("postscript", "got text"),
    ],
)
def test_no_image(tmp_path: Path, name: str, message: str) -> None:
    path = _case(tmp_path, name)
    with pytest.raises(ImageError, match=message) as caught:
        decode(ImageRef(path))
    assert str(caught.value).startswith(f"`{path}` must ")


@pytest.mark.parametrize("name", ["missing", "folder", "null character"])
def test_keys_of_unreadable_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="must be a readable file") as caught:
        image_key(ImageRef(_case(tmp_path, name)))
    assert ("Mend the path." in str(caught.value)) == (name != "folder")  # whose path is right


def _png_bomb(path: Path, side: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [11_000, 100_000])
def test_picture_bomb(tmp_path: Path, side: int) -> None:
    _png_bomb(tmp_path / "bomb.png", side)
    with pytest.raises(ImageError, match="must have at most 100,000,000 pixels"):
        decode(ImageRef(tmp_path / "bomb.png"))


def test_own_limit(tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"must have at most 4,095 pixels; got 64 x 64\. Scale it down or raise"
    ):
        decode(ImageRef(_picture(tmp_path, "png")), DecodeOptions(max_pixels=4095))


@pytest.mark.parametrize(
    "options",
    [{"window": (0, 0)}, {"window": (0, -1)}, {"percentiles": (99, 1)}, {"percentiles": (0, 101)},
     {"max_pixels": 0}, {"windows": (1, 1)}, {"window": (float("nan"), 1)}],
)  # fmt: skip
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        DecodeOptions(**options)


# --- nothing of a header leaks --------------------------------------------------------------------------

READS_ALL = """
import logging, sys, warnings
from pathlib import Path
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.getLogger("PIL").setLevel(logging.INFO)
warnings.simplefilter("error")
from meddistill.imaging import ImageRef, decode
from meddistill.errors import ImageError
read = refused = 0
for path in map(Path, sys.argv[1:]):
    try:
        decode(ImageRef(path))
        read += 1
    except ImageError as error:
        assert str(path) in str(error)
        refused += 1
print(read, refused)
"""


def test_all_shipped_files_are_read_in_silence() -> None:
    folder = Path(get_testdata_file("CT_small.dcm", download=False)).parent
    files = sorted(map(str, folder.glob("*.dcm")))
    done = subprocess.run(
        [sys.executable, "-c", READS_ALL, *files], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    read, refused = map(int, done.stdout.split())
    assert read + refused == len(files)
    assert read >= 45


def _damages(folder: Path) -> list[Path]:
    """The planted file, damaged in ways that make pydicom quote what it read."""
    bad_number = dataset(PIXELS)
    bad_number.add_new(0x00281050, "LO", "Zyxwvut^Planted 19370203")
    paths = [write(folder, bad_number, "number.dcm")]
    short = dataset(PIXELS)
    short.PixelData = short.PixelData[:100]
    paths.append(write(folder, short, "short.dcm"))
    odd = dataset(PIXELS)
    odd["PhotometricInterpretation"].VR = "LO"  # else pydicom warns when writing
    odd.PhotometricInterpretation = "PLANTED-4711"
    paths.append(write(folder, odd, "odd.dcm"))
    private = dataset(PIXELS)
    private.file_meta.TransferSyntaxUID = PLANTED["StudyInstanceUID"]
    private.save_as(folder / "private.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    paths.append(folder / "private.dcm")
    many = dataset(PIXELS)
    many.add_new(0x00280008, "LO", "19370203 19370203")
    paths.append(write(folder, many, "frames.dcm"))
    whole = paths[0].read_bytes()
    for share in (0.02, 0.1, 0.5):
        path = folder / f"cut{share}.dcm"
        path.write_bytes(whole[: int(len(whole) * share)])
        paths.append(path)
    return paths


def test_errors_hold_no_header_value(tmp_path: Path) -> None:
    refused = 0
    for path in _damages(tmp_path):
        try:
            decode(ImageRef(path))
        except ImageError as error:
            refused += 1
            told = str(error) + "".join(traceback.format_exception(error))
            leaked = [value for value in PLANTED.values() if value in told]
            assert leaked == [], path.name
    assert refused >= 7


def test_libraries_are_silent_in_a_process_that_logs(tmp_path: Path) -> None:
    files = [*map(str, _damages(tmp_path)), str(write(tmp_path, dataset(PIXELS)))]
    done = subprocess.run(
        [sys.executable, "-c", READS_ALL, *files], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.split()[0] != "0"


def test_decoding_in_threads_equals_decoding_in_turn(tmp_path: Path) -> None:
    folders = [tmp_path / kind for kind in WHOLE]
    for folder in folders:
        folder.mkdir()
    refs = [ImageRef(make(folder)) for make, folder in zip(WHOLE.values(), folders, strict=True)] * 6
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode, refs))
    assert all(np.array_equal(decode(ref), shown) for ref, shown in zip(refs, together, strict=True))
