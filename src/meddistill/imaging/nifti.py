"""One slice of a NIfTI volume, upright, scaled and turned by the fields of its header that make sense."""

import gzip
import math
import zlib
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from meddistill.errors import ImageError
from meddistill.imaging.damage import damaged, file_size
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Grey, rescaled, show_grey, three_channels
from meddistill.imaging.nifti_grid import Orientation, Sizes, orientation
from meddistill.imaging.options import DecodeOptions, ImageRef
from meddistill.imaging.picture import Picture
from meddistill.imaging.refusal import refusal, silence_libraries, too_much_memory, unread, within

SAGITTAL, CORONAL, AXIAL = 0, 1, 2
_STEP: Final = 1 << 20
_HEADER_BYTES: Final = {False: 352, True: 544}  # of the second version: True
_STRUCTURES: Final = {False: 348, True: 540}  # without the flag of extensions behind it
_SOUND_ENDS: Final = ([13, 10, 26, 10], [0, 0, 0, 0])


class _Volume(NamedTuple):
    """The voxels of a file as they are stored, and how one 3-D volume among them lies and is scaled."""

    voxels: ArrayProxy
    sizes: Sizes
    orientation: Orientation
    slope: float
    intercept: float

    def count(self, axis: int) -> int:
        """Slices along a canonical axis."""
        return self.sizes[self.orientation.stored_axis[axis]]


def decode_nifti(ref: ImageRef, options: DecodeOptions, *, compressed: bool) -> Picture:
    """One slice as `(H, W, 3)` uint8, on the voxel grid (not resampled to square pixels).

    The volume is read in its canonical orientation (RAS+: axis 0 left to right, 1 posterior to anterior, 2
    inferior to superior), whatever way it is stored; see `orientation` for which field of the header says so.
    `axis` defaults to 2 (axial) or, where exactly one axis has a single slice, to that one; `slice` defaults
    to the middle, `n // 2`. The slice is shown upright by the radiological convention that DICOM images
    follow: axial and coronal have the patient's right on the left of the image, axial has anterior on top,
    coronal and sagittal have superior on top, sagittal has anterior on the left. A 4-D file holds volumes:
    `frame` selects one, by default the first; more dimensions are refused. Grey of any depth is scaled by
    `scl_slope` and `scl_inter` where they make sense (see `rescaled`), then windowed by `options.window` or
    by percentiles of the slice; RGB voxels are kept.
    """
    path = ref.path
    stored, scaled = _slice(ref, options, compressed=compressed)
    if stored.dtype.fields:
        pixels = np.ascontiguousarray(np.stack([stored[channel] for channel in "RGB"], axis=2))
        return Picture(pixels, stored)
    if np.iscomplexobj(stored):
        raise refusal(path, must="hold real values", got="complex ones", do="Save the magnitude.")
    return Picture(three_channels(show_grey(path, scaled, options)), stored)


def nifti_slice(ref: ImageRef, options: DecodeOptions, *, compressed: bool) -> Grey:
    """The values of one slice, scaled by the header, upright as in `decode_nifti`."""
    return _slice(ref, options, compressed=compressed)[1]


def _slice(ref: ImageRef, options: DecodeOptions, *, compressed: bool) -> tuple[Grey, Grey]:
    """The values of one upright slice as they are stored, and scaled by the header."""
    silence_libraries()
    path = ref.path
    try:
        with path.open("rb") as file, gzip.open(file) if compressed else nullcontext(file) as stream:
            volume = _volume(path, stream, options)
            try:
                stored = _upright_slice(path, volume, ref)
            except (OSError, ValueError) as error:
                if getattr(error, "errno", None) or not _is_cut(stream, volume.voxels):
                    raise
                raise damaged(path, "NIfTI", shown="one that ends before its voxels do") from None
    except ImageError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:  # the checksum, the length, the stream
        shown = f"one whose compressed data are broken or end early ({type(error).__name__})"
        raise damaged(path, "NIfTI", shown=shown) from None
    except MemoryError:
        raise too_much_memory(path) from None
    except Exception as error:  # nibabel raises a dozen types, with values of the header in the text
        raise unread(path, "NIfTI file", error, words="") from None
    return stored, _scaled(stored, volume)


def _volume(path: ImageFile, stream: Any, options: DecodeOptions) -> _Volume:
    head = stream.read(_STRUCTURES[True])
    second = head[4:7] == b"n+2"
    size = _STRUCTURES[second]
    if len(head) < size:
        raise damaged(path, "NIfTI", shown="one that ends inside its header")
    order = "<" if head[:4] == size.to_bytes(4, "little") else ">"
    # Unchecked, for nibabel's check refuses fields that nobody needs here; without the extensions, which say
    # nothing of voxels and may be broken; by the order of the header's size, for nibabel goes by `dim`.
    kind = nibabel.Nifti2Header if second else nibabel.Nifti1Header
    header = kind(head[:size], endianness=order, check=False)
    _check_header(path, header, second=second)
    counted = 0 < header["dim"][0] < len(header["dim"])
    shape = tuple(int(size) for size in header.get_data_shape()) if counted else ()
    sizes = _sizes(path, shape, options)
    turned = orientation(header, sizes)
    if turned is None:
        raise refusal(
            path,
            must="state which way is up",
            got="no sform or qform that makes sense",
            do="Mend the header's sform or qform, or set both of their codes to 0.",
        )
    return _Volume(
        ArrayProxy(stream, (shape, _voxel_type(path, header), int(header.get_data_offset()))),
        sizes=sizes,
        orientation=turned,
        slope=float(header["scl_slope"]),
        intercept=float(header["scl_inter"]),
    )


def _check_header(path: ImageFile, header: Any, *, second: bool) -> None:
    if second and header["eol_check"].tolist() not in _SOUND_ENDS:
        shown = "one that was copied as text: the ends of lines in its magic number are changed"
        raise damaged(path, "NIfTI", shown=shown)
    least = _HEADER_BYTES[second]
    if not (header["vox_offset"] >= least and np.isfinite(header["vox_offset"])):  # NaN as well
        raise refusal(
            path,
            must=f"begin its voxels at byte {least} or later",
            got="a vox_offset inside its header, or infinity",
            do=f"Write {least} into vox_offset if the voxels are there.",
        )


def _sizes(path: ImageFile, shape: tuple[int, ...], options: DecodeOptions) -> Sizes:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise refusal(
            path,
            must="have 2, 3 or 4 dimensions of a voxel at least",
            got=f"shape {shape}",
            do="Save one volume alone.",
        )
    sizes = (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)
    if math.prod(sizes) > options.max_voxels:
        raise refusal(
            path,
            must=f"have at most {options.max_voxels:,} voxels a volume",
            got=" x ".join(f"{size:,}" for size in sizes),
            do="Cut the volume or raise `max_voxels`.",
        )
    return sizes


def _voxel_type(path: ImageFile, header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception:  # nibabel's HeaderDataError, which is no public name of its package
        dtype = np.dtype("V")
    if dtype.itemsize == 0 or (dtype.kind == "V" and not dtype.fields):
        raise refusal(
            path,
            must="hold voxels of a type that nibabel reads",
            got="another",
            do="Save them as int16 or float32.",
        )
    return dtype


def _is_cut(stream: Any, voxels: ArrayProxy) -> bool:
    """Whether the file, or what a packed one inflates to, ends before the voxels do."""
    needed = voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize
    if not isinstance(stream, gzip.GzipFile):
        return file_size(stream) < needed
    stream.seek(0)
    size = 0
    while size < needed and (block := stream.read(_STEP)):
        size += len(block)
    return size < needed


def _upright_slice(path: ImageFile, volume: _Volume, ref: ImageRef) -> Grey:
    axis = within(path, "axis", ref.axis, count=3, default=_default_axis(volume))
    count = volume.count(axis)
    number = within(path, "slice", ref.slice, count=count, default=count // 2)
    shape, turned = volume.voxels.shape, volume.orientation
    frame = within(path, "frame", ref.frame, count=shape[3] if len(shape) > 3 else 1, default=0)
    cut: list[slice | int] = [slice(None)] * 3
    cut[turned.stored_axis[axis]] = count - 1 - number if turned.reversed[axis] else number
    # Only the slice is read: nibabel's as_closest_canonical would load and reorder the whole file.
    stored: Grey = np.asarray(volume.voxels[(*cut, frame, *[0] * (len(shape) - 4))[: len(shape)]])
    if len(shape) == 2:
        stored = stored.reshape(
            [size for i, size in enumerate(volume.sizes) if i != turned.stored_axis[axis]]
        )
    first, second = (other for other in range(3) if other != axis)
    if turned.stored_axis[first] > turned.stored_axis[second]:
        stored = stored.T
    step = {False: 1, True: -1}
    canonical = stored[:: step[turned.reversed[first]], :: step[turned.reversed[second]]]
    return canonical[::-1, ::-1].T


def _scaled(stored: Grey, volume: _Volume) -> Grey:
    if stored.dtype.fields or np.iscomplexobj(stored):
        return stored
    finite = stored if stored.dtype.kind in "iub" else stored[np.isfinite(stored)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return rescaled(stored, volume.slope, volume.intercept, ends)


def _default_axis(volume: _Volume) -> int:
    single = [axis for axis in (SAGITTAL, CORONAL, AXIAL) if volume.count(axis) == 1]
    return single[0] if len(single) == 1 else AXIAL
