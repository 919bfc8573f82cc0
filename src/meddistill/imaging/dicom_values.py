"""Grey values of a DICOM frame to what its header says should be seen (PS3.3 C.7.6.3, C.11.1, C.11.2)."""

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes, Grey, Mask, show_grey, stretch
from meddistill.imaging.options import DecodeOptions

TAGS = [
    "BitsStored",
    "ModalityLUTSequence",
    "PerFrameFunctionalGroupsSequence",
    "PhotometricInterpretation",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "SharedFunctionalGroupsSequence",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
]
_SMALL_DEPTH = 8


def show_frame(
    path: ImageFile, stored: Grey, *, header: Dataset, index: int, options: DecodeOptions
) -> Bytes:
    """A stored grey frame `(H, W)` as it is meant to be seen, 8 bits.

    Modality LUT or rescale; then `options.window` (of values deeper than 8 bits), else the VOI LUT, else the
    first VOI window of positive width, else the full range of values stored in 8 bits or fewer, else
    percentiles. MONOCHROME1 is inverted. Padding has no part in the percentiles and is black.
    """
    padding = _padding(stored, header)
    values = _modality_values(stored, _group(header, index, "PixelValueTransformationSequence"))
    whole = _full_range(values, header)
    grey = None
    if options.window is None or whole is not None:
        grey = _voi(values, _group(header, index, "FrameVOILUTSequence"))
        grey = whole if grey is None else grey
    if grey is None:
        grey = show_grey(path, values, options, hidden=padding)
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def _group(header: Dataset, index: int, name: str) -> Dataset:
    """The functional group `name` of a frame of an enhanced multi-frame file; elsewhere the header itself."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for groups in (*per_frame[index : index + 1], *shared[:1]):
        if groups.get(name):
            return groups[name].value[0]
    return header


def _padding(stored: Grey, header: Dataset) -> Mask | None:
    if header.get("PixelPaddingValue") is None or not np.issubdtype(stored.dtype, np.integer):
        return None
    first = _as_stored(int(header.PixelPaddingValue), stored)
    limit = header.get("PixelPaddingRangeLimit")
    last = first if limit is None else _as_stored(int(limit), stored)
    padding: Mask = np.logical_and(stored >= min(first, last), stored <= max(first, last))
    return padding


def _as_stored(value: int, stored: Grey) -> int:
    # Writers give the padding of signed pixels as an unsigned number (-2000 as 63536) now and then.
    limits = np.iinfo(stored.dtype)
    return value - 2**limits.bits if value > limits.max else value


def _modality_values(stored: Grey, group: Dataset) -> Grey:
    sequence = group.get("ModalityLUTSequence")
    if sequence:
        return _looked_up(stored, sequence[0], group)[0]
    slope, intercept = _number(group, "RescaleSlope", 1.0), _number(group, "RescaleIntercept", 0.0)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    return stored.astype(np.float64) * slope + intercept


def _voi(values: Grey, group: Dataset) -> Bytes | None:
    sequence = group.get("VOILUTSequence")
    if sequence:
        shown, bits = _looked_up(values, sequence[0], group)
        return stretch(shown, 0, 2**bits - 1)
    function = str(group.get("VOILUTFunction") or "LINEAR").upper()
    windows = zip(_numbers(group, "WindowCenter"), _numbers(group, "WindowWidth"), strict=False)
    greys = (_windowed(values, function, centre=centre, width=width) for centre, width in windows)
    return next((grey for grey in greys if grey is not None), None)


def _windowed(values: Grey, function: str, *, centre: float, width: float) -> Bytes | None:
    """Values through a VOI window; None for a width that makes no sense."""
    if function == "SIGMOID" and width > 0:
        return stretch(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), 0, 1)
    if function == "LINEAR_EXACT" and width > 0:
        return stretch(values, centre - width / 2, centre + width / 2)
    if function == "LINEAR" and width > 1:
        return stretch(values, centre - width / 2, centre + width / 2 - 1)
    return None


def _full_range(values: Grey, header: Dataset) -> Bytes | None:
    if int(header.get("PixelRepresentation", 0)) or not np.issubdtype(values.dtype, np.unsignedinteger):
        return None
    if int(header.BitsStored) > _SMALL_DEPTH or header.get("ModalityLUTSequence"):
        return None
    return stretch(values, 0, 2 ** int(header.BitsStored) - 1)


def _looked_up(values: Grey, table: Dataset, group: Dataset) -> tuple[Grey, int]:
    """Values through a LUT item (PS3.3 C.11.1.1.1), and the bits of its entries.

    Not pydicom's own: with 8-bit entries it folds indices above 255.
    """
    entries, first, bits = (int(number) for number in table.LUTDescriptor)
    entries = entries or 2**16
    data: Any = table.LUTData
    if isinstance(data, bytes):
        little = getattr(group, "original_encoding", (None, True))[1] is not False
        data = np.frombuffer(data, dtype=("<" if little else ">") + "u2")
    looked_up = np.asarray(data)[:entries]
    index = np.clip(np.floor(values).astype(np.int64) - first, 0, len(looked_up) - 1)
    return looked_up[index], bits


def _number(group: Dataset, keyword: str, default: float) -> float:
    return next(iter(_numbers(group, keyword)), default)


def _numbers(group: Dataset, keyword: str) -> list[float]:
    value = group.get(keyword)
    if value is None or value == "":
        return []
    return [float(each) for each in ([value] if isinstance(value, str | int | float) else value)]
