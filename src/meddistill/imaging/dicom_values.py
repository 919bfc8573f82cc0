"""Grey values of a DICOM frame to what its header says should be seen (PS3.3 C.7.6.3, C.11.1, C.11.2)."""

import math
from typing import Final, NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from meddistill.imaging.dicom_header import PixelLayout, number, numbers
from meddistill.imaging.dicom_lut import lut_table
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import (
    Bytes,
    Grey,
    Mask,
    finite_values,
    rescaled,
    show_grey,
    stretch,
    stretch_window,
)
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.refusal import refusal

TAGS: Final = [
    "MaximumFractionalValue",
    "ModalityLUTSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "SharedFunctionalGroupsSequence",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]
_SMALL_DEPTH: Final = 8
_STEEPEST: Final = 700.0  # exp overflows soon after


class _Modality(NamedTuple):
    """Values after the modality transformation, and the least and greatest that it can give."""

    values: Grey
    domain: tuple[float, float]


def show_frame(
    path: ImageFile,
    stored: Grey,
    *,
    header: Dataset,
    layout: PixelLayout,
    index: int,
    options: DecodeOptions,
) -> Bytes:
    """A stored grey frame `(H, W)` as it is meant to be seen, 8 bits.

    Modality LUT or rescale (see `rescaled`); then `options.window` (of values deeper than 8 bits), else the
    VOI LUT, else the first VOI window that makes sense, else the full range of values stored in 8 bits or
    fewer (of a fractional segmentation up to its greatest fraction), else percentiles. MONOCHROME1 is
    inverted. Padding has no part in the percentiles and is black.
    """
    stored, hidden = finite_values(path, stored, options, hidden=_padding(path, stored, header))
    modality = _modality(path, stored, header=header, layout=layout, index=index)
    shallow = modality.values is stored and _is_shallow(stored, layout)
    grey = None
    if options.window is None or shallow:
        grey = _voi(path, modality, _group(header, index, "FrameVOILUTSequence"))
        if grey is None and shallow:
            # Of a fractional segmentation the value that stands for the whole (PS3.3 C.8.20.2).
            top = number(path, header, "MaximumFractionalValue", 0)
            grey = stretch(stored, 0, top) if top > 0 else stretch(stored, *layout.stored_range)
    if grey is None:
        grey = show_grey(path, modality.values, options, hidden=hidden)
    if layout.photometric == "MONOCHROME1":
        grey = 255 - grey
    if hidden is not None:
        grey[hidden] = 0
    return grey


def _group(header: Dataset, index: int, name: str) -> Dataset:
    """The functional group `name` of a frame of an enhanced multi-frame file; elsewhere the header itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *shared[:1]):
        if groups.get(name):
            return groups[name].value[0]
    return header


def _padding(path: ImageFile, stored: Grey, header: Dataset) -> Mask | None:
    value = number(path, header, "PixelPaddingValue", math.nan)
    if not math.isfinite(value) or not np.issubdtype(stored.dtype, np.integer):
        return None
    limit = number(path, header, "PixelPaddingRangeLimit", value)
    first, last = _as_stored(int(value), stored), _as_stored(int(limit), stored)
    padding: Mask = np.logical_and(stored >= min(first, last), stored <= max(first, last))
    return padding


def _as_stored(value: int, stored: Grey) -> int:
    # Writers give the padding of signed pixels as an unsigned number (-2000 as 63536) now and then.
    limits = np.iinfo(stored.dtype)
    if value > limits.max:
        return max(value - (1 << limits.bits), limits.min)
    return value if value >= limits.min else max(value + (1 << limits.bits), 0)


def _modality(
    path: ImageFile, stored: Grey, *, header: Dataset, layout: PixelLayout, index: int
) -> _Modality:
    domain = layout.stored_range if np.issubdtype(stored.dtype, np.integer) else _range(stored)
    group = _group(header, index, "PixelValueTransformationSequence")
    sequence = group.get("ModalityLUTSequence")
    if sequence:
        table = lut_table(sequence[0], domain)
        if table is None:
            raise refusal(
                path,
                must="have entries in its modality LUT",
                got="none",
                do="Write its ModalityLUTSequence again, or take it out of the header.",
            )
        return _Modality(table.look_up(stored), (0, (1 << table.bits) - 1))
    slope = number(path, group, "RescaleSlope", 1.0)
    intercept = number(path, group, "RescaleIntercept", 0.0)
    values = rescaled(stored, slope, intercept, domain)
    if values is stored:
        return _Modality(stored, domain)
    ends = rescaled(np.array(domain, np.float64), slope, intercept, domain)
    return _Modality(values, _range(ends))


def _range(values: Grey) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _voi(path: ImageFile, modality: _Modality, group: Dataset) -> Bytes | None:
    sequence = group.get("VOILUTSequence")
    table = lut_table(sequence[0], modality.domain) if sequence else None
    if table is not None:
        return stretch(table.look_up(modality.values), 0, (1 << table.bits) - 1)
    function = str(group.get("VOILUTFunction") or "LINEAR").strip().upper()
    centres, widths = numbers(path, group, "WindowCenter"), numbers(path, group, "WindowWidth")
    windows = zip(centres, widths, strict=False)
    greys = (_windowed(modality.values, function, centre=centre, width=width) for centre, width in windows)
    return next((grey for grey in greys if grey is not None), None)


def _windowed(values: Grey, function: str, *, centre: float, width: float) -> Bytes | None:
    """Values through a VOI window (PS3.3 C.11.2.1.2, C.11.2.1.3); None for one that makes no sense."""
    if not (math.isfinite(centre) and math.isfinite(width)):
        return None
    if function == "SIGMOID" and width > 0:
        steepness = np.clip(-4 * (values.astype(np.float64) - centre) / width, -_STEEPEST, _STEEPEST)
        return stretch(1 / (1 + np.exp(steepness)), 0, 1)
    if function == "LINEAR_EXACT" and width > 0:
        return stretch_window(values, (centre, width))
    if function == "LINEAR" and width > 1:
        return stretch_window(values, (centre - 0.5, width - 1))
    if function == "LINEAR" and width == 1:  # a step, and no division by zero
        return np.where(values > centre - 0.5, np.uint8(255), np.uint8(0))
    return None


def _is_shallow(stored: Grey, layout: PixelLayout) -> bool:
    return np.issubdtype(stored.dtype, np.unsignedinteger) and layout.bits <= _SMALL_DEPTH
