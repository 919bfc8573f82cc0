"""One frame of a DICOM file through pydicom.

No header value but sizes ever leaves this module: not in a message, not in a log, not in a warning.
"""

import re
import zlib

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from meddistill.errors import ImageError
from meddistill.imaging.dicom_values import TAGS, show_frame
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes, Grey, stretch, three_channels
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.refusal import refusal, silence_libraries, within
from meddistill.imaging.sniff import damaged

_PALETTE = [
    f"{prefix}{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for prefix, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
]
_TAGS = [*TAGS, *_PALETTE, "Columns", "NumberOfFrames", "Rows", "SamplesPerPixel"]
_INFLATE_STEP = 1 << 20
_META_START, _META_BYTES = 128 + 4 + 12, 4096
_META_HEAD = b"DICM\x02\0\0\0"  # and the tag of the group length


def decode_dicom(path: ImageFile, frame: int | None, options: DecodeOptions) -> Bytes:
    """A frame as `(H, W, 3)` uint8; `frame` defaults to the middle one, `n // 2`.

    Grey frames are shown as `show_frame` says; RGB and YBR (converted) keep their colours, PALETTE COLOR is
    looked up. Colour deeper than 8 bits is scaled by the full range of its stored bits.
    """
    silence_libraries()
    try:
        _refuse_inflation(path, options)
        with path.open("rb") as file:
            header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_TAGS)
        count = _check_sizes(path, header, options)
        index = within(path, "frame", frame, count=count, default=count // 2)
        return _show(path, _stored(path, header, index), header=header, index=index, options=options)
    except ImageError:
        raise
    except MemoryError:
        raise _too_large(path, "far more", options) from None
    except Exception:  # pydicom and its plug-ins raise anything on damaged files, with values in the text
        raise damaged(path, "DICOM") from None


def _show(path: ImageFile, stored: Grey, *, header: Dataset, index: int, options: DecodeOptions) -> Bytes:
    if header.PhotometricInterpretation == "PALETTE COLOR":
        colour = apply_color_lut(stored, header)
        return np.ascontiguousarray(colour if colour.dtype == np.uint8 else colour >> 8, dtype=np.uint8)
    if stored.ndim == 3:
        bits = int(header.BitsStored)
        plain = stored.dtype == np.uint8 and bits == 8
        return np.array(stored, dtype=np.uint8) if plain else stretch(stored, 0, 2**bits - 1)
    return three_channels(show_frame(path, stored, header=header, index=index, options=options))


def _check_sizes(path: ImageFile, header: Dataset, options: DecodeOptions) -> int:
    """The number of frames, once the header's sizes are known to be sane."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise refusal(
            path,
            must="hold pixels",
            got="a DICOM file without any",
            do="Reports, plans and waveforms have no picture.",
        )
    rows, columns, frames = int(header.Rows), int(header.Columns), int(header.get("NumberOfFrames") or 1)
    if rows * columns > options.max_pixels or rows * columns * frames > options.max_voxels:
        raise _too_large(path, f"{rows:,} x {columns:,} in {frames:,} frames", options)
    if rows * columns * frames < 1:
        raise damaged(path, "DICOM")
    return frames


def _too_large(path: ImageFile, got: str, options: DecodeOptions) -> ImageError:
    return refusal(
        path,
        must=f"have at most {options.max_pixels:,} pixels a frame and {options.max_voxels:,} in all",
        got=got,
        do="Raise `max_pixels` or `max_voxels` if the file is sound.",
    )


def _stored(path: ImageFile, header: Dataset, index: int) -> Grey:
    syntax: UID | None = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax == DeflatedExplicitVRLittleEndian or header.preamble is None:
        with path.open("rb") as file:
            whole = dcmread(file, force=True)
        if syntax is None:
            whole.file_meta.TransferSyntaxUID = _found_syntax(whole)
        return pixel_array(whole, index=index)
    _refuse_unreadable(path, syntax)
    try:
        with path.open("rb") as file:
            return pixel_array(file, index=index)  # reads this frame's bytes only
    except RuntimeError:
        raise _undecodable(
            path, syntax, "Try: pip install {plugin}. With it installed, the file is damaged."
        ) from None


def _found_syntax(dataset: Dataset) -> UID:
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _refuse_unreadable(path: ImageFile, syntax: UID) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise _undecodable(path, syntax, "Save its frames as images or uncompressed DICOM.") from None
    if not available:
        raise _undecodable(path, syntax, "Install what decodes it: pip install {plugin}")


def _undecodable(path: ImageFile, syntax: UID, do: str) -> ImageError:
    known = syntax.is_transfer_syntax and not syntax.is_private
    name = syntax.name if known else "a private transfer syntax"
    return refusal(
        path,
        must="have a compression that installed plug-ins decode",
        got=name,
        do=do.format(plugin=_plugin(syntax)),
    )


def _plugin(syntax: UID) -> str:
    try:
        missing = " ".join(get_decoder(syntax).missing_dependencies)
    except NotImplementedError:
        missing = ""
    found = re.findall(r"pylibjpeg-\w+", missing)
    return " ".join(["pylibjpeg", *found] if found else ["python-gdcm"])


def _refuse_inflation(path: ImageFile, options: DecodeOptions) -> None:
    """Refuse a deflated data set that inflates without end; pydicom would inflate it whole, in memory."""
    with path.open("rb") as file:
        head = file.read(_META_BYTES)
        if DeflatedExplicitVRLittleEndian.encode() not in head:
            return
        if head[128:136] != _META_HEAD:
            raise damaged(path, "DICOM")
        # Preamble, prefix and the group length element itself, which says how long the rest of the group is.
        file.seek(_META_START + int.from_bytes(head[_META_START - 4 : _META_START], "little"))
        inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while (packed := inflater.unconsumed_tail or file.read(_INFLATE_STEP)) and not inflater.eof:
            inflated += len(inflater.decompress(packed, _INFLATE_STEP))
            if inflated > options.max_voxels:
                raise _too_large(path, "a deflated file of more bytes", options)
