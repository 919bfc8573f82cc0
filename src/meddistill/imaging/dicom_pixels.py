"""The stored values of one uncompressed DICOM frame.

They are cut out here: pydicom takes frames of one bit from the wrong bytes where they begin inside
one, and does not ask where the high bit is.
"""

import struct
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from meddistill.imaging.damage import damaged, file_size
from meddistill.imaging.dicom_header import PixelLayout
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Grey
from meddistill.imaging.refusal import refusal

UNDEFINED: Final = 0xFFFFFFFF
_KEYWORDS: Final = {
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00010: "PixelData",
}
_VRS: Final = {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"}
_FLOATS: Final = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


class PixelElement(NamedTuple):
    """Where the pixels of an open file begin, and how they are written."""

    keyword: str
    start: int
    length: int
    little_endian: bool
    swapped: bool  # bytes that were written as 16-bit words of the other order


def pixel_element(
    path: ImageFile, file: BinaryIO, *, layout: PixelLayout, little_endian: bool
) -> PixelElement:
    """The element of the pixels at the file's position, where reading before pixels stops."""
    order = "<" if little_endian else ">"
    head = file.read(8)
    if len(head) < 8:
        raise refusal(
            path,
            must="hold pixels",
            got="sizes of a picture without any",
            do="Save it again with its pixels.",
        )
    group, element = struct.unpack(order + "HH", head[:4])
    # Implicit VR has the length here; it is even, and the first letters of these VRs are odd.
    vr = head[4:6] if head[4:6] in _VRS else b""
    length = file.read(4) if vr else head[4:]
    keyword = _KEYWORDS[group << 16 | element]
    return PixelElement(
        keyword,
        start=file.tell(),
        length=int(struct.unpack(order + "L", length)[0]),
        little_endian=little_endian,
        swapped=not little_endian and layout.allocated <= 8 and vr == b"OW",
    )


def native_frame(
    path: ImageFile, file: BinaryIO, *, element: PixelElement, layout: PixelLayout, index: int
) -> Grey:
    """The values of an uncompressed frame, `(H, W)` or `(H, W, 3)`, samples of YBR_FULL_422 repeated.

    Raises ImageError if the file ends before the frame does, or if its pixels are fewer than its sizes ask
    for.
    """
    _check_colors(path, element, layout)
    subsampled = layout.samples == 3 and layout.photometric == "YBR_FULL_422"
    count = layout.rows * layout.columns * (2 if subsampled else layout.samples)
    _check_length(path, file, element, bits=(index + 1) * count * layout.allocated)
    if layout.allocated == 1:
        values = np.unpackbits(_frame_bytes(file, element, *_span(index * count, count)), bitorder="little")
        values = values[index * count % 8 :][:count]
    else:
        width = layout.allocated // 8
        content = _frame_bytes(file, element, index * count * width, count * width)
        values = own_bits(content.view(_dtype(element, layout)), element, layout)
    if subsampled:
        values = _four_to_six(values)
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar and not subsampled:
        return values.reshape(3, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(layout.rows, layout.columns, 3)


def own_bits(values: Grey, element: PixelElement, layout: PixelLayout) -> Grey:
    """The bits that belong to samples, and their sign (PS3.5 8.1.1); what lies around them is no picture."""
    if element.keyword in _FLOATS or layout.bits == layout.allocated:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    left = layout.allocated - layout.bits - layout.shift
    shifted = values.astype(values.dtype.newbyteorder("=")) << left
    return shifted >> (layout.allocated - layout.bits)


def to_rgb(values: Grey, bits: int) -> Grey:
    """YBR_FULL samples `(H, W, 3)` as RGB, rounded and clipped (PS3.3 C.7.6.3.1.2, inverted)."""
    forward = np.array([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    middle = np.array([0, 1 << bits - 1, 1 << bits - 1])
    rgb = (values.astype(np.float64) - middle) @ np.linalg.inv(forward).T
    clipped: Grey = np.clip(np.rint(rgb), 0, (1 << bits) - 1).astype(values.dtype)
    return clipped


def _check_length(path: ImageFile, file: BinaryIO, element: PixelElement, *, bits: int) -> None:
    needed = -(-bits // 8)
    if file_size(file) < element.start + min(needed, element.length):
        raise damaged(path, "DICOM", shown="one that ends before its pixels do")
    if element.length < needed:
        raise refusal(
            path,
            must=f"hold {needed:,} bytes of pixels by its rows, columns and bits",
            got=f"{element.length:,}",
            do="Save it again with the sizes that it has.",
        )


def _check_colors(path: ImageFile, element: PixelElement, layout: PixelLayout) -> None:
    """Refuse colours that uncompressed pixels cannot have: they would be shown as others."""
    if layout.samples == 1 or layout.photometric not in {"YBR_FULL_422", "YBR_ICT", "YBR_RCT"}:
        return
    three = layout.frames * layout.rows * layout.columns * 3 * layout.allocated // 8
    if layout.photometric != "YBR_FULL_422":
        got = "uncompressed ones of JPEG 2000"
    elif element.length >= three:
        got = "three samples a pixel, where YBR_FULL_422 has two"
    elif layout.columns % 2:
        got = "an odd number of columns, where YBR_FULL_422 pairs them"
    else:
        return
    raise refusal(
        path,
        must="have the colours that its photometric interpretation names",
        got=got,
        do="Name them RGB or YBR_FULL, whichever they are.",
    )


def _span(first: int, count: int) -> tuple[int, int]:
    """The bytes around bits: where they start, and how many."""
    return first // 8, -(-(first + count) // 8) - first // 8


def _frame_bytes(file: BinaryIO, element: PixelElement, start: int, count: int) -> Grey:
    extra = start % 2 if element.swapped else 0
    length = count + extra + ((count + extra) % 2 if element.swapped else 0)
    file.seek(element.start + start - extra)
    content = np.frombuffer(file.read(length), dtype=np.uint8)
    if element.swapped:
        content = content[: len(content) // 2 * 2].view(np.uint16).byteswap().view(np.uint8)
    return content[extra : extra + count]


def _dtype(element: PixelElement, layout: PixelLayout) -> str:
    order = "<" if element.little_endian else ">"
    return order + _FLOATS.get(element.keyword, f"{'ui'[layout.signed]}{layout.allocated // 8}")


def _four_to_six(values: Grey) -> Grey:
    """Y1 Y2 CB CR of two neighbours as Y1 CB CR Y2 CB CR."""
    pairs = values.reshape(-1, 4)
    return np.stack([pairs[:, [0, 2, 3]], pairs[:, [1, 2, 3]]], axis=1)
