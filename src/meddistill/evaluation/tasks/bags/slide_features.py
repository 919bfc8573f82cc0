"""Features of slides as CLAM and TRIDENT store them: one HDF5 file a slide.

`features` is float16, float32 or float64 [n, d], in some TRIDENT files [1, n, d]; of slide-level encoders [d]
or [1, d], one vector beside the `coords` of all patches, which then say nothing of it. `coords` [n, 2], where
present, are the upper left corners of the patches in pixels of level 0. CLAM writes `patch_size` and
`patch_level` as attributes of `coords`, TRIDENT `patch_size`, `patch_size_level0`, `target_magnification`
and others. Nothing in such a file is executed: plain arrays are read, links to other files refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats32, Ints
from meddistill.data.hdf5 import Hdf5RefusedError, hdf5_array, hdf5_file
from meddistill.errors import UserError

_ATTRIBUTES: Final = ("patch_size", "patch_level", "patch_size_level0", "level0_magnification")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class SlideFeatures:
    """Features [n, d] of a slide's patches, float32; their corners [n, 2]; what the file says of patches."""

    features: Floats32
    coordinates: Ints | None
    attributes: dict[str, float]


def feature_file(folder: Path, bag: str) -> Path | None:
    """The file of a bag in a folder, None where there is none; a bag's name is never taken for a path."""
    path = folder / f"{bag}.h5"
    return path if bag not in ("", "..") and Path(bag).name == bag and path.is_file() else None


def read_features(path: Path) -> SlideFeatures:
    """Features of one slide.

    Raises
    ------
    UserError
        For a file that is no HDF5 or cannot be read, without patches, with other shapes than above, or with
        features that are not finite; patches are named, counted from 1.
    MissingExtra
        Where h5py is not installed.
    """
    try:
        with hdf5_file(path) as file:
            features = np.asarray(hdf5_array(file, "features"))
            coordinates = np.asarray(hdf5_array(file, "coords")) if "coords" in file else None
            attributes = _attributes(file)
    except Hdf5RefusedError as refused:
        msg = f"`{path}` {refused}"
        raise UserError(msg) from refused
    features = _matrix(features)
    if features.dtype.kind != "f" or features.ndim != 2 or 0 in features.shape:
        got = f"{features.dtype} {list(features.shape)}"
        raise _refusal(path, "hold `features` of floats [patches, width]", got)
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        features = features.astype(np.float32)
    _check_finite(features, path)
    if coordinates is not None:
        coordinates = _corners(coordinates, len(features), path)
    return SlideFeatures(features=features, coordinates=coordinates, attributes=attributes)


def _matrix(features: NDArray[Any]) -> NDArray[Any]:
    """Without the axis of the slide that some versions of TRIDENT keep; one vector is one row."""
    if features.ndim == 3 and len(features) == 1:
        return features[0]
    return features[None] if features.ndim == 1 else features


def _attributes(file: Any) -> dict[str, float]:
    places = [file[name].attrs for name in ("coords", "features") if name in file] + [file.attrs]
    numbers: dict[str, float] = {}
    for attributes in places:
        for name in _ATTRIBUTES:
            try:
                value = np.asarray(attributes.get(name, ""))
            except TypeError:  # of a type that numpy does not have, or without a value
                continue
            if name not in numbers and value.size == 1 and value.dtype.kind in "iuf":
                numbers[name] = float(value.reshape(()))
    return numbers


def _check_finite(features: NDArray[Any], path: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1)) + 1
    if len(bad):
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        named = ", ".join(str(each) for each in bad[:_SHOWN])
        raise _refusal(
            path, "hold `features` that are finite in float32", f"NaN or infinity in patches {named}{more}"
        )


def _corners(coordinates: NDArray[Any], count: int, path: Path) -> Ints | None:
    if coordinates.ndim == 3 and len(coordinates) == 1:
        coordinates = coordinates[0]
    if count == 1 and coordinates.shape != (1, 2):
        return None  # one vector of the slide beside the corners of all its patches
    if coordinates.shape != (count, 2) or coordinates.dtype.kind not in "iuf":
        got = f"{coordinates.dtype} {list(coordinates.shape)} for {count} patches"
        raise _refusal(path, "hold `coords` of numbers [patches, 2]", got)
    if not np.isfinite(coordinates).all():
        raise _refusal(path, "hold finite `coords`", "NaN or infinity")
    return coordinates.astype(np.int64)


def _refusal(path: Path, rule: str, got: str) -> UserError:
    msg = f"`{path}` must {rule}; got {got}. Compare with the files of other slides, or make it again."
    return UserError(msg)
