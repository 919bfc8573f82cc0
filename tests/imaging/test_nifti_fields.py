"""NIfTI: tables of header fields, patched byte by byte, against the standard's formulas in numpy."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

VOLUME = np.random.default_rng(0).integers(-1000, 3000, (6, 7, 5)).astype(np.int16)
WINDOW = (900.0, 4100.0)
NAN, INF = float("nan"), float("inf")
IDENTITY = np.eye(3)
# Stored axes to right, anterior and superior: left-handed, turned, and oblique by 20 degrees.
LEFT_HANDED = np.diag([-2.0, 3.0, 4.0])
TURNED = np.array([[0, 0, -4.0], [2.0, 0, 0], [0, -3.0, 0]])
OBLIQUE = np.array([[0.94, -0.34, 0], [0.34, 0.94, 0], [0, 0, 1]]) @ np.diag([2.0, 3.0, 4.0])


def _patched(folder: Path, volume: np.ndarray, fields: dict[int, bytes], *, codes: tuple[int, int]) -> Path:
    """A NIfTI-1 file with bytes of its header replaced; `codes` are those of qform and sform."""
    path = folder / "a.nii"
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    for place, field in {252: struct.pack("<hh", *codes), **fields}.items():
        content[place : place + len(field)] = field
    path.write_bytes(content)
    return path


def _scaling(slope: float, inter: float) -> dict[int, bytes]:
    return {112: struct.pack("<ff", slope, inter)}


def _sform(matrix: np.ndarray) -> dict[int, bytes]:
    rows = np.concatenate([matrix, np.zeros((3, 1))], axis=1)
    return {280: rows.astype("<f4").tobytes()}


def _qform(b: float, c: float, d: float, *, pixdim: tuple[float, float, float, float]) -> dict[int, bytes]:
    return {76: struct.pack("<ffff", *pixdim), 256: struct.pack("<ffffff", b, c, d, 0, 0, 0)}


def _grey(values: np.ndarray, window: tuple[float, float] = WINDOW) -> np.ndarray:
    scaled = (values.astype(float) - window[0]) / window[1] + 0.5
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(int)


def _upright(volume: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The middle axial slice by the closest axes, anterior on top and right on the left."""
    affine = np.eye(4)
    affine[:3, :3] = directions
    turned = nibabel.apply_orientation(volume, nibabel.io_orientation(affine))
    return turned[:, :, turned.shape[2] // 2][::-1, ::-1].T


def _shown(path: Path, **selectors: Any) -> np.ndarray:
    return decode(ImageRef(path, **selectors), DecodeOptions(window=WINDOW))[:, :, 0].astype(int)


@pytest.mark.parametrize(
    ("slope", "inter", "applied"),
    [
        (1, 0, (1, 0)),
        (2, 100, (2, 100)),
        (-1, 50, (-1, 50)),
        (2, 0, (2, 0)),
        (0.5, -INF, (0.5, 0)),
        (2, NAN, (2, 0)),
        (1, NAN, (1, 0)),
        (0, 0, (1, 0)),
        (0, 70, (1, 0)),
        (0, NAN, (1, 0)),
        (NAN, NAN, (1, 0)),
        (NAN, 70, (1, 0)),
        (INF, 0, (1, 0)),
        (1e-30, 1000, (1, 0)),
    ],
)
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32])
def test_scaling(
    tmp_path: Path, slope: float, inter: float, applied: tuple[float, float], kind: type
) -> None:
    volume = VOLUME.clip(0, 255).astype(kind) if kind is np.uint8 else VOLUME.astype(kind)
    path = _patched(tmp_path, volume, _scaling(slope, inter), codes=(0, 2))
    expected = _upright(volume.astype(float) * applied[0] + applied[1], IDENTITY)
    assert np.abs(_shown(path) - _grey(expected)).max() <= 1


SOUND = _qform(0, 0, 0, pixdim=(1, 2, 3, 4))


@pytest.mark.parametrize(
    ("fields", "codes", "directions"),
    [
        (_sform(LEFT_HANDED), (0, 1), LEFT_HANDED),
        (_sform(TURNED), (0, 2), TURNED),
        (_sform(OBLIQUE), (0, 1), OBLIQUE),
        (_sform(TURNED) | SOUND, (1, 1), TURNED),
        (_sform(TURNED) | SOUND, (1, 0), IDENTITY),
        (_sform(np.zeros((3, 3))) | SOUND, (1, 1), IDENTITY),
        (_sform(np.full((3, 3), NAN)) | SOUND, (1, 1), IDENTITY),
        (_sform(np.ones((3, 3))) | SOUND, (1, 4), IDENTITY),
        (_sform(LEFT_HANDED) | _qform(NAN, 0, 0, pixdim=(1, 2, 3, 4)), (1, 1), LEFT_HANDED),
        (_qform(0, 0, 0, pixdim=(-1, 2, 3, 4)), (1, 0), np.diag([1.0, 1, -1])),
        (_qform(0, 0, 0, pixdim=(0, 2, 3, 4)), (1, 0), IDENTITY),
        (_qform(0, 0, 0, pixdim=(1, -2, 3, 4)), (1, 0), IDENTITY),
        (_qform(0, 0, 1, pixdim=(1, 2, 3, 4)), (1, 0), np.diag([-1.0, -1, 1])),
        (_qform(1, 0, 0, pixdim=(-1, 2, 3, 4)), (1, 0), np.diag([1.0, -1, 1])),
        (_qform(0, 0, 0, pixdim=(1, 2, 3, 0)), (1, 0), IDENTITY),
        (_qform(0, 0, 0, pixdim=(1, NAN, NAN, NAN)), (1, 0), IDENTITY),
        (
            _qform(0, 0, 0.7071068, pixdim=(1, 2, 3, 4)),
            (1, 0),
            np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]),
        ),
        (_qform(0, 0, 0, pixdim=(1, 2, 3, 4)), (0, 0), np.diag([-1.0, 1, 1])),
        (_qform(0, 0, 0, pixdim=(1, 0, 0, 0)), (0, 0), np.diag([-1.0, 1, 1])),
    ],
)
def test_orientation(
    tmp_path: Path, fields: dict[int, bytes], codes: tuple[int, int], directions: np.ndarray
) -> None:
    path = _patched(tmp_path, VOLUME, fields, codes=codes)
    assert np.array_equal(_shown(path), _grey(_upright(VOLUME, directions)))


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        (_sform(np.zeros((3, 3))), (0, 1)),
        (_sform(np.zeros((3, 3))) | _qform(NAN, 0, 0, pixdim=(1, 2, 3, 4)), (1, 1)),
        (_qform(1, 1, 1, pixdim=(1, 2, 3, 4)), (1, 0)),
    ],
)
def test_no_sound_form_is_refused_and_its_remedy_works(
    tmp_path: Path, fields: dict[int, bytes], codes: tuple[int, int]
) -> None:
    with pytest.raises(ImageError, match=r"which way is up; .* set both of their codes to 0"):
        _shown(_patched(tmp_path, VOLUME, fields, codes=codes))
    path = _patched(tmp_path, VOLUME, fields, codes=(0, 0))
    assert np.array_equal(_shown(path), _grey(_upright(VOLUME, np.diag([-1.0, 1, 1]))))


FLAT = VOLUME[:, :, 0]


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 1, 1)])
@pytest.mark.parametrize(
    ("fields", "codes", "directions"),
    [
        (_qform(0, 0, 0, pixdim=(1, 2, 3, 0)), (1, 0), IDENTITY),
        (_qform(0, 0, 0, pixdim=(1, 2, 3, 0)), (0, 0), np.diag([-1.0, 1, 1])),
        (_sform(np.diag([-2.0, 3.0, 0])), (0, 1), np.diag([-1.0, 1, 1])),
        (_sform(np.diag([2.0, 3.0, NAN])), (0, 1), IDENTITY),
        (_sform(np.zeros((3, 3))) | SOUND, (1, 1), IDENTITY),
    ],
)
def test_flat_images(
    tmp_path: Path,
    shape: tuple[int, ...],
    fields: dict[int, bytes],
    codes: tuple[int, int],
    directions: np.ndarray,
) -> None:
    path = _patched(tmp_path, FLAT.reshape(shape), fields, codes=codes)
    assert np.array_equal(_shown(path), _grey(_upright(FLAT[:, :, None], directions)))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64,
                                  np.uint64, np.float32, np.float64])  # fmt: skip
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_voxels(tmp_path: Path, kind: type, order: str) -> None:
    volume = np.arange(6 * 7 * 5).reshape(6, 7, 5) % 120
    header = nibabel.Nifti1Header(endianness=order)
    stored = np.dtype(kind).newbyteorder(order)
    header.set_data_dtype(stored)
    nibabel.save(nibabel.Nifti1Image(volume.astype(stored), np.eye(4), header), tmp_path / "a.nii")
    shown = decode(ImageRef(tmp_path / "a.nii"), DecodeOptions(window=(60, 120)))[:, :, 0]
    assert np.abs(shown - _grey(_upright(volume, IDENTITY), (60, 120))).max() <= 1


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colour_is_not_scaled(tmp_path: Path, channels: str) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3, len(channels)), dtype=np.uint8)
    voxels = colour.view([(name, "u1") for name in channels])[..., 0]
    path = _patched(tmp_path, voxels, _scaling(2, 9), codes=(0, 1))
    expected = colour[:, :, 1, :3][::-1, ::-1].transpose(1, 0, 2)
    assert np.array_equal(decode(ImageRef(path)), expected)


@pytest.mark.parametrize("code", [1, 3, 77])
def test_type_that_nobody_reads_is_named(tmp_path: Path, code: int) -> None:
    path = _patched(tmp_path, VOLUME, {70: struct.pack("<h", code)}, codes=(0, 1))
    with pytest.raises(ImageError, match=r"voxels of a type .* int16 or float32") as caught:
        _shown(path)
    assert "be a whole" not in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "extension",
    [struct.pack("<ii", 7, 4) + b"x" * 8, struct.pack("<ii", 0, 0) + bytes(8),
     struct.pack("<ii", 1 << 30, 4) + bytes(8), struct.pack("<ii", 16, 2) + b"\xff" * 8],
    ids=["odd", "empty", "huge", "no DICOM"],
)  # fmt: skip
def test_broken_extensions_say_nothing_of_voxels(tmp_path: Path, extension: bytes, *, packed: bool) -> None:
    offset = struct.pack("<f", 352 + len(extension))
    path = _patched(tmp_path, VOLUME, {108: offset, 348: b"\1\0\0\0"}, codes=(0, 2))
    content = path.read_bytes()
    content = content[:352] + extension + content[352:]
    path.write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(_shown(path), _grey(_upright(VOLUME, IDENTITY)))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({40: struct.pack("<h", 8)}, "2, 3 or 4 dimensions"),
        ({40: struct.pack("<h", -3)}, "2, 3 or 4 dimensions"),
        ({40: struct.pack("<hhhh", 3, 6, 7, 0)}, "of a voxel at least"),
        ({108: struct.pack("<f", INF)}, "Write 352 into vox_offset"),
        ({108: struct.pack("<f", 0)}, "Write 352 into vox_offset"),
    ],
)
def test_senseless_sizes_and_places_are_named(tmp_path: Path, fields: dict[int, bytes], named: str) -> None:
    with pytest.raises(ImageError, match=named):
        _shown(_patched(tmp_path, VOLUME, fields, codes=(0, 2)))
    path = _patched(tmp_path, VOLUME, {108: struct.pack("<f", 352)}, codes=(0, 2))  # what the message advises
    assert np.array_equal(_shown(path), _grey(_upright(VOLUME, IDENTITY)))
