"""Look-up tables of DICOM: modality, VOI and palette (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5)."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut
from pydicom.tag import Tag

from meddistill.imaging.dicom_header import words
from meddistill.imaging.intensity import Grey

_SIGN: Final = 1 << 15
_WORDS: Final = 1 << 16
_COLORS: Final = ("Red", "Green", "Blue")
PALETTE_TAGS: Final = [
    f"{prefix}{color}PaletteColorLookupTable{part}"
    for color in _COLORS
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]


class Table(NamedTuple):
    """`entries` of values `first`, `first + 1`, …, in `bits` bits."""

    first: int
    entries: NDArray[np.uint16]
    bits: int

    def look_up(self, values: Grey) -> Grey:
        """The entries of values; those before the first have the first, those after the last the last."""
        index = np.floor(np.nan_to_num(values.astype(np.float64))) - self.first
        index = np.clip(index, 0, len(self.entries) - 1, out=index)
        return self.entries[index.astype(np.int64)]


def lut_table(
    item: Dataset, domain: tuple[float, float], *, descriptor: str = "LUTDescriptor", data: str = "LUTData"
) -> Table | None:
    """The table of an item for values of a domain; None where it makes no sense.

    A count of 0 is 65536. The first value is signed if the domain has negative values, whatever the VR says
    (in implicit VR it says nothing), unless only the other sign lets the table meet the domain. Entries of 8
    bits lie two in a word or one, which their number tells; entries of more bits than the descriptor claims
    have the bits that the largest needs.
    """
    described = words(item, descriptor)
    if len(described) != 3:
        return None
    count = int(described[0]) or _WORDS
    entries, packed = _entries(words(item, data), count)
    if not len(entries):
        return None
    claimed = int(described[2]) if described[2] <= 16 else 0
    bits = 8 if packed else max(claimed, int(entries.max()).bit_length(), 1)
    return Table(_first(int(described[1]), count, domain), entries, bits)


def palette(header: Dataset, domain: tuple[float, float]) -> tuple[Table, Table, Table] | None:
    """The tables of red, green and blue; None where they make no sense."""
    if Tag("SegmentedRedPaletteColorLookupTableData") in header:
        return _segmented(header)
    tables = [
        lut_table(
            header,
            domain,
            descriptor=f"{color}PaletteColorLookupTableDescriptor",
            data=f"{color}PaletteColorLookupTableData",
        )
        for color in _COLORS
    ]
    sound = [table for table in tables if table is not None]
    if len(sound) < len(_COLORS):
        return None
    bits = max(table.bits for table in sound)
    if max(int(table.entries.max()) for table in sound) < 1 << 8:  # bytes, whatever depth is claimed
        bits = 8
    red, green, blue = (table._replace(bits=bits) for table in sound)
    return red, green, blue


def _segmented(header: Dataset) -> tuple[Table, Table, Table]:
    """The tables that pydicom makes of segments (PS3.3 C.7.9.2)."""
    count, first, bits = (int(value) for value in header.RedPaletteColorLookupTableDescriptor)
    colors = apply_color_lut(np.arange(first, first + (count or _WORDS)), header)
    red, green, blue = (Table(first, colors[:, place].astype(np.uint16), bits) for place in range(3))
    return red, green, blue


def _first(word: int, count: int, domain: tuple[float, float]) -> int:
    signed = word - _WORDS if word >= _SIGN else word
    fitting, other = (signed, word) if domain[0] < 0 else (word, signed)
    return fitting if _meets(fitting, count, domain) or not _meets(other, count, domain) else other


def _meets(first: int, count: int, domain: tuple[float, float]) -> bool:
    return first <= domain[1] and first + count > domain[0]


def _entries(data: NDArray[np.uint16], count: int) -> tuple[NDArray[np.uint16], bool]:
    """The entries, and whether they lie two in a word: only then are there half as many words."""
    if 1 < count > len(data) == -(-count // 2):
        return data.astype("<u2").view(np.uint8)[:count].astype(np.uint16), True
    return data[:count], False
