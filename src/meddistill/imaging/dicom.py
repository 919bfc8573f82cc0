"""One frame of a DICOM file.

No header value but sizes ever leaves this module: not in a message, not in a log, not in a warning.
"""

import io
import zlib
from contextlib import AbstractContextManager
from typing import BinaryIO, Final

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from meddistill.errors import ImageError
from meddistill.imaging.damage import damaged, file_size
from meddistill.imaging.dicom_compressed import compressed_frame
from meddistill.imaging.dicom_header import COLORS, PixelLayout, pixel_layout
from meddistill.imaging.dicom_header import TAGS as LAYOUT_TAGS
from meddistill.imaging.dicom_lut import PALETTE_TAGS, palette
from meddistill.imaging.dicom_pixels import UNDEFINED, native_frame, pixel_element, to_rgb
from meddistill.imaging.dicom_values import TAGS, show_frame
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes, Grey, stretch, three_channels
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.picture import Picture
from meddistill.imaging.refusal import refusal, silence_libraries, too_much_memory, unread, within

_TAGS: Final = [*LAYOUT_TAGS, *TAGS, *PALETTE_TAGS]
_UNCOMPRESSED: Final = {None, ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian}
_INFLATE_STEP: Final = 1 << 20
_META_START, _META_BYTES = 128 + 4 + 12, 4096
_META_HEAD: Final = b"DICM\x02\0\0\0"  # and the tag of the group length


def decode_dicom(path: ImageFile, frame: int | None, options: DecodeOptions) -> Picture:
    """A frame as `(H, W, 3)` uint8; `frame` defaults to the middle one, `n // 2`.

    Only the bits that belong to samples count. Grey frames are shown as `show_frame` says; RGB and YBR
    (converted) keep their colours, PALETTE COLOR is looked up. Colour deeper than 8 bits is scaled by the
    full range of its stored bits.
    """
    silence_libraries()
    try:
        with _opened(path, options) as file:
            header = _header(path, file)
            layout = pixel_layout(path, header)
            _check_sizes(path, layout, options)
            index = within(path, "frame", frame, count=layout.frames, default=layout.frames // 2)
            stored = _stored(path, file, header=header, layout=layout, index=index)
        return _picture(path, stored, header=header, layout=layout, index=index, options=options)
    except ImageError:
        raise
    except MemoryError:
        raise too_much_memory(path) from None
    except OSError as error:
        raise unread(path, "DICOM file", error, words="") from None
    except Exception as error:  # pydicom raises anything, with values of the header in the text
        raise unread(path, "DICOM file", error, words="") from None


def _picture(
    path: ImageFile,
    stored: Grey,
    *,
    header: FileDataset,
    layout: PixelLayout,
    index: int,
    options: DecodeOptions,
) -> Picture:
    if layout.photometric == "PALETTE COLOR" and stored.ndim == 2:
        return Picture(_color_picture(path, stored, header, layout), stored)
    if stored.ndim == 3:
        plain = stored.dtype == np.uint8 and layout.bits == 8
        pixels = np.array(stored, np.uint8) if plain else stretch(stored, *layout.stored_range)
        return Picture(pixels, stored)
    grey = show_frame(path, stored, header=header, layout=layout, index=index, options=options)
    return Picture(three_channels(grey), stored)


def _color_picture(path: ImageFile, stored: Grey, header: FileDataset, layout: PixelLayout) -> Bytes:
    tables = palette(header, layout.stored_range)
    if tables is None:
        raise refusal(
            path,
            must="have the palette of its PALETTE COLOR",
            got="none for red, green or blue",
            do="Save it as RGB.",
        )
    # By the upper byte: some writers make 16 bits of 8 by a factor of 256, others by 257.
    return np.stack([table.look_up(stored) >> max(table.bits - 8, 0) for table in tables], axis=2).astype(
        np.uint8
    )


def _check_sizes(path: ImageFile, layout: PixelLayout, options: DecodeOptions) -> None:
    pixels = layout.rows * layout.columns
    sizes = f"{layout.rows:,} x {layout.columns:,} in {layout.frames:,} frames"
    if pixels > options.max_pixels or pixels * layout.frames > options.max_voxels:
        raise _too_large(path, sizes, options)
    if min(layout.rows, layout.columns, layout.frames) < 1:
        raise refusal(path, must="have a pixel at least", got=sizes, do="Save it again with its sizes.")


def _too_large(path: ImageFile, got: str, options: DecodeOptions) -> ImageError:
    return refusal(
        path,
        must=f"have at most {options.max_pixels:,} pixels a frame and {options.max_voxels:,} in all",
        got=got,
        do="Raise `max_pixels` or `max_voxels` if the file is sound.",
    )


def _header(path: ImageFile, file: BinaryIO) -> FileDataset:
    """The elements before the pixels; of a file that is cut their lengths lead beyond its end."""
    cut = damaged(path, "DICOM", shown="one that ends inside its header")
    try:
        header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_TAGS)
    except Exception:  # in the middle of a sequence, pydicom raises a mistake of its own
        if file.tell() >= file_size(file):
            raise cut from None
        raise
    raw = (header.get_item(Tag(keyword)) for keyword in _TAGS)
    short = any(len(each.value or b"") < each.length < UNDEFINED for each in raw if hasattr(each, "length"))
    if short or file.tell() > file_size(file):
        raise cut
    return header


def _stored(path: ImageFile, file: BinaryIO, *, header: FileDataset, layout: PixelLayout, index: int) -> Grey:
    little = header.original_encoding[1] is not False
    element = pixel_element(path, file, layout=layout, little_endian=little)
    syntax: UID | None = header.file_meta.get("TransferSyntaxUID")
    if syntax not in _UNCOMPRESSED:
        return compressed_frame(path, file, syntax=syntax, element=element, layout=layout, index=index)
    if element.length == UNDEFINED:
        raise refusal(
            path,
            must="name the transfer syntax of its compressed pixels",
            got="none, or that of uncompressed ones",
            do="Save it again with its file meta information.",
        )
    stored = native_frame(path, file, element=element, layout=layout, index=index)
    if stored.ndim == 2 or layout.photometric not in COLORS - {"RGB"}:
        return stored
    return to_rgb(stored, layout.bits)


def _opened(path: ImageFile, options: DecodeOptions) -> AbstractContextManager[BinaryIO]:
    """The file, or what a deflated one inflates to: its data set without meta information."""
    with path.open("rb") as file:
        head = file.read(_META_BYTES)
        if DeflatedExplicitVRLittleEndian.encode() not in head:
            return path.open("rb")
        if head[128:136] != _META_HEAD:
            raise refusal(
                path,
                must="begin its meta information with their length, behind a preamble, to be inflated",
                got="something else",
                do="Save it again as uncompressed DICOM.",
            )
        # Preamble, prefix and the group length element itself, which says how long the rest of the group is.
        file.seek(_META_START + int.from_bytes(head[_META_START - 4 : _META_START], "little"))
        return io.BytesIO(_inflated(path, file, options))


def _inflated(path: ImageFile, file: BinaryIO, options: DecodeOptions) -> bytes:
    """Inflated step by step, for a few bytes can stand for more than memory holds."""
    inflater, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), list[bytes](), 0
    try:
        while (packed := inflater.unconsumed_tail or file.read(_INFLATE_STEP)) and not inflater.eof:
            parts.append(inflater.decompress(packed, _INFLATE_STEP))
            size += len(parts[-1])
            if size > options.max_voxels:
                raise _too_large(path, "a deflated file of more bytes", options)
    except zlib.error:
        raise damaged(path, "DICOM", shown="one that cannot be inflated") from None
    if not inflater.eof:
        raise damaged(path, "DICOM", shown="one that ends inside its deflated data") from None
    return b"".join(parts)
