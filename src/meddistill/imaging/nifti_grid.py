"""Which way is up in a NIfTI volume, from the fields of its header that make sense."""

from typing import Any, NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Sizes = tuple[int, int, int]


class Orientation(NamedTuple):
    """Where the axes right, anterior and superior lie in the stored array, and which are reversed."""

    stored_axis: tuple[int, int, int]
    reversed: tuple[bool, bool, bool]


def orientation(header: Any, sizes: Sizes) -> Orientation | None:
    """The orientation by the sform if its code is set and it makes sense, else so by the qform.

    Without either code there is no orientation in the standard (method 1); as nibabel does, the first axis
    then runs to the left. None where a code is set and no form makes sense. A form makes sense if it has
    three finite directions that span space; an axis of a single slice needs none, and lengths do not matter,
    for nothing is resampled: pixdims of 0 are as good as others.
    """
    forms = [_sform(header)] if header["sform_code"] > 0 else []
    forms += [_qform(header)] if header["qform_code"] > 0 else []
    for form in forms or [np.diag([-1.0, 1.0, 1.0])]:
        completed = _completed(form, sizes)
        if completed is not None:
            return _axes(completed)
    return None


def _sform(header: Any) -> Matrix:
    return np.array([header[f"srow_{axis}"][:3] for axis in "xyz"], dtype=np.float64)


def _qform(header: Any) -> Matrix:
    """The rotation of the quaternion, its third axis turned by qfac; NaN if it is no rotation."""
    b, c, d = (float(header[f"quatern_{name}"]) for name in "bcd")
    square = 1 - (b * b + c * c + d * d)
    if not square > -1e-5:  # NaN as well; rounding may leave a little less than 0
        return np.full((3, 3), np.nan)
    a = max(square, 0.0) ** 0.5
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    return rotation * [1, 1, -1 if header["pixdim"][0] == -1 else 1]


def _completed(form: Matrix, sizes: Sizes) -> Matrix | None:
    """Unit directions of the three axes, that of a single slice made up if need be; None if they fail."""
    lengths = np.linalg.norm(form, axis=0)
    sound = np.isfinite(lengths) & (lengths > 0)
    missing = np.flatnonzero(~sound)
    if len(missing) > 1 or any(sizes[axis] > 1 for axis in missing):
        return None
    directions = np.where(sound, form, 0.0) / np.where(sound, lengths, 1.0)
    for axis in missing:
        directions[:, axis] = np.cross(directions[:, axis - 2], directions[:, axis - 1])
    return directions if abs(np.linalg.det(directions)) > 1e-6 else None


def _axes(directions: Matrix) -> Orientation:
    affine = np.eye(4)
    affine[:3, :3] = directions
    orientation = nibabel.io_orientation(affine)
    first, second, third = (int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3))
    turned = (
        bool(orientation[first, 1] < 0),
        bool(orientation[second, 1] < 0),
        bool(orientation[third, 1] < 0),
    )
    return Orientation((first, second, third), turned)
