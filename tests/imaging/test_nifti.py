"""NIfTI: orientation against nibabel, slices, volumes, values."""

import gzip
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest

from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

VOLUME = np.random.default_rng(0).integers(-1000, 3000, (5, 6, 7)).astype(np.int16)
PLAIN = DecodeOptions(window=(1000, 4000))
ORIENTATIONS = [
    "".join(axes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for axes in itertools.product(*order)
]


def _save(folder: Path, data: np.ndarray, codes: str = "RAS", name: str = "a.nii.gz") -> Path:
    transform = nibabel.orientations.axcodes2ornt(codes)
    affine = np.zeros((4, 4))
    for axis, (canonical, sign) in enumerate(transform):
        affine[int(canonical), axis] = sign * (axis + 1)
    affine[3, 3] = 1
    nibabel.save(nibabel.Nifti1Image(data, affine), folder / name)
    return folder / name


def _shown(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) + 1000) / 4000, 0, 1) * 255)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_stored_orientation_shows_the_same_anatomy(tmp_path: Path, codes: str) -> None:
    path = _save(tmp_path, VOLUME, codes)
    canonical = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    for axis in range(3):
        for number in (0, canonical.shape[axis] - 1):
            shown = decode(ImageRef(path, axis=axis, slice=number), PLAIN)[:, :, 0]
            expected = np.take(canonical, number, axis=axis)[::-1, ::-1].T
            assert np.array_equal(shown, _shown(expected))


def test_radiological_convention(tmp_path: Path) -> None:
    volume = np.full((8, 8, 8), -1000, np.int16)
    volume[7, 6, 5] = 3000  # far right, far anterior, superior
    path = _save(tmp_path, volume)
    row, column = np.argwhere(decode(ImageRef(path, axis=2, slice=5), PLAIN)[:, :, 0])[0]
    assert (row, column) == (1, 0)  # anterior on top, the patient's right on the left
    row, column = np.argwhere(decode(ImageRef(path, axis=1, slice=6), PLAIN)[:, :, 0])[0]
    assert (row, column) == (2, 0)  # superior on top, the patient's right on the left
    row, column = np.argwhere(decode(ImageRef(path, axis=0, slice=7), PLAIN)[:, :, 0])[0]
    assert (row, column) == (2, 1)  # superior on top, anterior on the left


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_both_versions_plain_and_packed_default_to_the_middle_axial_slice(
    tmp_path: Path, name: str, kind: type
) -> None:
    nibabel.save(kind(VOLUME, np.eye(4)), tmp_path / name)
    expected = _shown(VOLUME[:, :, 3][::-1, ::-1].T)
    assert np.array_equal(decode(ImageRef(tmp_path / name), PLAIN)[:, :, 0], expected)


def test_big_endian_header(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(VOLUME.astype(">i2"), np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    shown = decode(ImageRef(tmp_path / "a.nii"), PLAIN)[:, :, 0]
    assert np.array_equal(shown, _shown(VOLUME[:, :, 3][::-1, ::-1].T))


def test_name_does_not_matter(tmp_path: Path) -> None:
    path = _save(tmp_path, VOLUME).rename(tmp_path / "volume.png")
    assert decode(ImageRef(path)).shape == (6, 5, 3)


def test_percentiles_are_those_of_the_slice(tmp_path: Path) -> None:
    path = _save(tmp_path, VOLUME)
    values = VOLUME[:, :, 2][::-1, ::-1].T.astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    shown = decode(ImageRef(path, slice=2))[:, :, 0]
    assert np.array_equal(shown, np.rint(np.clip((values - low) / (high - low), 0, 1) * 255))


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOLUME, np.eye(4))
    image.header.set_slope_inter(2, 100)
    nibabel.save(image, tmp_path / "a.nii")
    shown = decode(ImageRef(tmp_path / "a.nii"), PLAIN)[:, :, 0]
    assert np.array_equal(shown, _shown(VOLUME[:, :, 3][::-1, ::-1].T * 2 + 100))


def test_single_slice_volumes_show_that_slice(tmp_path: Path) -> None:
    sagittal = decode(ImageRef(_save(tmp_path, VOLUME[:1])), PLAIN)[:, :, 0]
    assert np.array_equal(sagittal, _shown(VOLUME[0][::-1, ::-1].T))
    flat = decode(ImageRef(_save(tmp_path, VOLUME[:, :, 0])), PLAIN)[:, :, 0]
    assert np.array_equal(flat, _shown(VOLUME[:, :, 0][::-1, ::-1].T))


def test_frame_selects_a_volume(tmp_path: Path) -> None:
    path = _save(tmp_path, np.stack([VOLUME, VOLUME + 100], axis=3))
    for frame, added in ((None, 0), (0, 0), (1, 100)):
        shown = decode(ImageRef(path, frame=frame), PLAIN)[:, :, 0]
        assert np.array_equal(shown, _shown(VOLUME[:, :, 3][::-1, ::-1].T + added))
    with pytest.raises(ImageError, match=r"`frame` in \[0, 1\]; got 2"):
        decode(ImageRef(path, frame=2))


def test_trailing_axes_of_one_are_ignored_and_others_refused(tmp_path: Path) -> None:
    assert decode(ImageRef(_save(tmp_path, VOLUME[:, :, :, None, None]))).shape == (6, 5, 3)
    with pytest.raises(ImageError, match="must have 2, 3 or 4 dimensions"):
        decode(ImageRef(_save(tmp_path, np.zeros((3, 3, 3, 1, 3), np.int16))))


@pytest.mark.parametrize(("selector", "value"), [("axis", 3), ("axis", -1), ("slice", 7), ("slice", -1)])
def test_selectors_out_of_range(tmp_path: Path, selector: str, value: int) -> None:
    with pytest.raises(ImageError, match=rf"`{selector}` in \[0, \d\]; got {value}"):
        decode(ImageRef(_save(tmp_path, VOLUME), **{selector: value}))


def test_rgb_voxels_keep_their_colours(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3, 3), dtype=np.uint8)
    voxels = np.ascontiguousarray(colour).view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(4, 5, 3)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    shown = decode(ImageRef(tmp_path / "a.nii", slice=1))
    assert np.array_equal(shown, colour[:, :, 1][::-1, ::-1].transpose(1, 0, 2))


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, VOLUME.astype(np.complex64))
    with pytest.raises(ImageError, match="must hold real values"):
        decode(ImageRef(path))


def test_nan_is_refused_or_black(tmp_path: Path) -> None:
    volume = VOLUME.astype(np.float32)
    volume[0, 0, 3], volume[4, 5, 3] = np.nan, np.inf
    ref = ImageRef(_save(tmp_path, volume))
    with pytest.raises(
        ImageError, match=r"must hold finite values; got NaN or infinity.*`non_finite` to `black`"
    ):
        decode(ref)
    shown = decode(ref, DecodeOptions(non_finite="black"))[:, :, 0]
    finite = VOLUME[:, :, 3][::-1, ::-1].T
    low, high = np.percentile(np.delete(finite.ravel(), [0, 29]), (0.5, 99.5))
    expected = np.rint(np.clip((finite - low) / (high - low), 0, 1) * 255)
    expected[0, 0] = expected[-1, -1] = 0
    assert np.array_equal(shown, expected)
    assert decode(ImageRef(ref.path, slice=2)).any()  # the other slices are sound
    with pytest.raises(ImageError, match="must hold finite values"):
        decode(
            ImageRef(_save(tmp_path, np.full((3, 3, 3), np.nan, np.float32))),
            DecodeOptions(non_finite="black"),
        )


def test_singular_affine_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, VOLUME, name="a.nii")
    whole = bytearray(path.read_bytes())
    whole[280:328] = bytes(48)  # the sform's rows
    whole[252:256] = b"\0\0\1\0"  # no qform, an sform
    path.write_bytes(whole)
    with pytest.raises(ImageError, match="which way is up; got no sform or qform"):
        decode(ImageRef(path))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_sizes_of_the_header_are_checked_before_reading(tmp_path: Path, name: str) -> None:
    path = _save(tmp_path, VOLUME, name="a.nii")
    whole = bytearray(path.read_bytes())
    whole[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    packed = gzip.compress(bytes(whole)) if name.endswith("gz") else bytes(whole)
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(ImageError, match="must have at most 1,073,741,824 voxels"):
        decode(ImageRef(tmp_path / name))


def test_negative_and_zero_sizes(tmp_path: Path) -> None:
    path = _save(tmp_path, VOLUME, name="a.nii")
    whole = bytearray(path.read_bytes())
    for size in (0, -4):
        whole[42:44] = np.array([size], "<i2").tobytes()
        path.write_bytes(whole)
        with pytest.raises(ImageError):
            decode(ImageRef(path))


def test_header_of_a_pair_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(VOLUME, np.eye(4)), tmp_path / "a.img")
    with pytest.raises(ImageError, match="got the header of a NIfTI pair"):
        decode(ImageRef(tmp_path / "a.hdr"))
