"""Numbers of a DICOM header as they stand in the file, and how its pixels lie.

pydicom's own conversion is not asked: it refuses a decimal comma, and takes the sign of "US or SS" in
implicit VR from PixelRepresentation alone.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.refusal import refusal

TAGS: Final = [
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "HighBit",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PlanarConfiguration",
    "Rows",
    "SamplesPerPixel",
]
COLORS: Final = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
_GREYS: Final = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}
_ALLOCATED: Final = (1, 8, 16, 32, 64)
_BINARY: Final = {"US": "u2", "SS": "i2", "US or SS": "u2", "UL": "u4", "SL": "i4", "FL": "f4", "FD": "f8"}


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """How the pixels of a file lie (PS3.3 C.7.6.3, PS3.5 8.1.1).

    A sample has `allocated` bits, of which `bits` are its own, above `shift` others; those around them may
    hold anything, overlays for instance.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    allocated: int
    bits: int
    shift: int
    signed: bool
    planar: bool

    @property
    def stored_range(self) -> tuple[int, int]:
        """The least and the greatest value that a sample can have."""
        return (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)


def numbers(path: ImageFile, dataset: Dataset, keyword: str) -> list[float]:
    """The values of an element, none where it is absent or empty; a decimal comma counts as a point.

    Raises ImageError, which names the element, if they are no numbers.
    """
    raw = _raw(dataset, keyword)
    if raw is None or not raw.value:
        return []
    vr = raw.VR if raw.VR not in {None, "UN"} else dictionary_VR(Tag(keyword))
    try:
        if vr in _BINARY:
            order = "<" if raw.is_little_endian else ">"
            return [float(value) for value in np.frombuffer(raw.value, dtype=order + _BINARY[vr])]
        texts = raw.value.decode("latin-1").replace("\0", " ").split("\\")
        decimals = [_decimal(text.strip()) for text in texts]
    except (ValueError, AttributeError):  # AttributeError: a sequence in its place
        raise refusal(
            path,
            must=f"hold numbers in its element {keyword}",
            got="something else",
            do="Write that element of the header again.",
        ) from None
    return [] if all(map(math.isnan, decimals)) and not any(map(str.strip, texts)) else decimals


def words(dataset: Dataset, keyword: str) -> NDArray[np.uint16]:
    """An element's value as 16-bit words, whatever VR it claims; none where it is absent or empty."""
    raw = _raw(dataset, keyword)
    value = b"" if raw is None else raw.value or b""
    order = "<" if raw is None or raw.is_little_endian or raw.VR == "OB" else ">"
    return np.frombuffer(value + bytes(len(value) % 2), dtype=order + "u2").astype(np.uint16)


def number(path: ImageFile, dataset: Dataset, keyword: str, default: float) -> float:
    """The first value of an element, or the default."""
    return next(iter(numbers(path, dataset, keyword)), default)


def pixel_layout(path: ImageFile, header: Dataset) -> PixelLayout:
    """How the pixels lie, by the header; ImageError where it leaves that open, or cannot be shown."""
    whole = {keyword: _whole(path, header, keyword) for keyword in TAGS if keyword != TAGS[5]}
    if whole["Rows"] is None or whole["Columns"] is None:
        raise refusal(
            path,
            must="hold pixels",
            got="a DICOM file without any",
            do="Reports, plans and waveforms have no picture.",
        )
    samples = whole["SamplesPerPixel"] or 1
    allocated = whole["BitsAllocated"] or 0
    if samples not in {1, 3} or allocated not in _ALLOCATED:
        raise refusal(
            path,
            must="have 1 or 3 samples a pixel of 1, 8, 16, 32 or 64 bits",
            got=f"{samples} of {allocated}",
            do="Save it as grey or RGB of 8 or 16 bits.",
        )
    bits = whole["BitsStored"] or allocated
    bits = bits if 0 < bits <= allocated else allocated
    high = whole["HighBit"]
    high = high if high is not None and bits - 1 <= high < allocated else bits - 1
    return PixelLayout(
        rows=whole["Rows"],
        columns=whole["Columns"],
        frames=whole["NumberOfFrames"] or 1,
        samples=samples,
        photometric=_photometric(path, header),
        allocated=allocated,
        bits=bits,
        shift=high - bits + 1,
        signed=bool(whole["PixelRepresentation"]),
        planar=whole["PlanarConfiguration"] == 1,
    )


def _photometric(path: ImageFile, header: Dataset) -> str:
    raw = _raw(header, "PhotometricInterpretation")
    name = "" if raw is None or not raw.value else raw.value.decode("latin-1").strip(" \0").upper()
    if name not in COLORS | _GREYS:
        raise refusal(
            path,
            must=f"have a photometric interpretation among {', '.join(sorted(COLORS | _GREYS))}",
            got="another, or none",
            do="Save it as MONOCHROME2 or RGB.",
        )
    return name


def _raw(dataset: Dataset, keyword: str) -> Any:
    return dataset.get_item(Tag(keyword))


def _whole(path: ImageFile, header: Dataset, keyword: str) -> int | None:
    values = numbers(path, header, keyword)
    return int(values[0]) if values and math.isfinite(values[0]) else None


def _decimal(text: str) -> float:
    """A number, NaN for a blank; the last of commas and points is the point, those before part thousands."""
    if not text:
        return math.nan
    thousands, point = (".", ",") if text.rfind(",") > text.rfind(".") else (",", ".")
    return float(text.replace(thousands, "").replace(point, "."))
