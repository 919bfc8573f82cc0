"""One slice of a NIfTI volume, upright, through nibabel."""

import gzip
import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import nibabel
import numpy as np

from meddistill.errors import ImageError
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes, Grey, show_grey, three_channels
from meddistill.imaging.options import DecodeOptions, ImageRef
from meddistill.imaging.refusal import refusal, silence_libraries, within
from meddistill.imaging.sniff import damaged

SAGITTAL, CORONAL, AXIAL = 0, 1, 2


class _Volume(NamedTuple):
    """A 3-D volume in a file: stored sizes, and where the canonical axes lie in the stored array."""

    sizes: tuple[int, int, int]
    stored_axis: tuple[int, int, int]  # of the canonical axes right, anterior, superior
    reversed: tuple[bool, bool, bool]

    def count(self, axis: int) -> int:
        """Slices along a canonical axis."""
        return self.sizes[self.stored_axis[axis]]


def decode_nifti(ref: ImageRef, options: DecodeOptions, *, compressed: bool) -> Bytes:
    """One slice as `(H, W, 3)` uint8, on the voxel grid (not resampled to square pixels).

    The volume is read in its canonical orientation (RAS+: axis 0 left to right, 1 posterior to anterior,
    2 inferior to superior), whatever way it is stored. `axis` defaults to 2 (axial) or, where exactly one
    axis has a single slice, to that one; `slice` defaults to the middle, `n // 2`. The slice is shown
    upright by the radiological convention that DICOM images follow: axial and coronal have the patient's
    right on the left of the image, axial has anterior on top, coronal and sagittal have superior on top,
    sagittal has anterior on the left. A 4-D file holds volumes: `frame` selects one, by default the first;
    more dimensions are refused. Grey of any depth is windowed by `options.window` or by percentiles of the
    slice; RGB voxels are kept.
    """
    path = ref.path
    picture = nifti_slice(ref, options, compressed=compressed)
    if picture.dtype.fields:
        return np.ascontiguousarray(np.stack([picture[channel] for channel in "RGB"], axis=2))
    if np.iscomplexobj(picture):
        raise refusal(path, must="hold real values", got="complex ones", do="Save the magnitude.")
    return three_channels(show_grey(path, picture, options))


def nifti_slice(ref: ImageRef, options: DecodeOptions, *, compressed: bool) -> Grey:
    """The values of one slice as they are stored (scaled by the header), upright as in `decode_nifti`."""
    silence_libraries()
    path = ref.path
    try:
        with path.open("rb") as file, gzip.open(file) if compressed else nullcontext(file) as stream:
            image = _open(stream)
            volume = _volume(path, image, options)
            return _upright_slice(path, image, volume, ref)
    except ImageError:
        raise
    except Exception:  # nibabel and gzip raise a dozen types on headers and streams that are damaged
        raise damaged(path, "NIfTI") from None


def _open(stream: Any) -> Any:
    second = stream.read(8)[4:7] == b"n+2"
    stream.seek(0)
    return (nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_stream(stream)


def _volume(path: ImageFile, image: Any, options: DecodeOptions) -> _Volume:
    shape = tuple(int(size) for size in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise refusal(
            path, must="have 2, 3 or 4 dimensions", got=f"shape {image.shape}", do="Save one volume alone."
        )
    sizes = (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)
    if math.prod(sizes) > options.max_voxels:
        raise refusal(
            path,
            must=f"have at most {options.max_voxels:,} voxels a volume",
            got=" x ".join(f"{size:,}" for size in sizes),
            do="Cut the volume or raise `max_voxels`.",
        )
    orientation = nibabel.io_orientation(image.affine)
    if not np.isfinite(orientation).all():
        raise refusal(
            path, must="say which way is up", got="a singular affine", do="Mend the header's sform or qform."
        )
    stored = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3)]
    return _Volume(
        sizes,
        stored_axis=(stored[0], stored[1], stored[2]),
        reversed=(
            bool(orientation[stored[0], 1] < 0),
            bool(orientation[stored[1], 1] < 0),
            bool(orientation[stored[2], 1] < 0),
        ),
    )


def _upright_slice(path: ImageFile, image: Any, volume: _Volume, ref: ImageRef) -> Grey:
    axis = within(path, "axis", ref.axis, count=3, default=_default_axis(volume))
    count = volume.count(axis)
    number = within(path, "slice", ref.slice, count=count, default=count // 2)
    volumes = int(image.shape[3]) if image.ndim > 3 else 1
    frame = within(path, "frame", ref.frame, count=volumes, default=0)
    cut: list[slice | int] = [slice(None)] * 3
    cut[volume.stored_axis[axis]] = count - 1 - number if volume.reversed[axis] else number
    # Only the slice is read: nibabel's as_closest_canonical would load and reorder the whole file.
    stored: Grey = np.asarray(image.dataobj[(*cut, frame, *[0] * (image.ndim - 4))[: image.ndim]])
    if image.ndim == 2:
        stored = stored.reshape(
            [size for i, size in enumerate(volume.sizes) if i != volume.stored_axis[axis]]
        )
    first, second = (other for other in range(3) if other != axis)
    if volume.stored_axis[first] > volume.stored_axis[second]:
        stored = stored.T
    step = {False: 1, True: -1}
    canonical = stored[:: step[volume.reversed[first]], :: step[volume.reversed[second]]]
    return canonical[::-1, ::-1].T


def _default_axis(volume: _Volume) -> int:
    single = [axis for axis in (SAGITTAL, CORONAL, AXIAL) if volume.count(axis) == 1]
    return single[0] if len(single) == 1 else AXIAL
