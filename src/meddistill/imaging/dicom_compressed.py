"""Compressed DICOM frames through pydicom's decoders, and in which words they are refused."""

import re
import struct
from typing import BinaryIO, Final

from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from meddistill.errors import ImageError
from meddistill.imaging.damage import JPEG_END, damaged, file_size
from meddistill.imaging.dicom_header import PixelLayout
from meddistill.imaging.dicom_pixels import UNDEFINED, PixelElement, own_bits
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Grey
from meddistill.imaging.refusal import refusal

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_JPEG, _JPEG_2000 = (b"\xff\xd8",), (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  ")
_ELSEWHERE: Final = "Save its frames as images or uncompressed DICOM."


def compressed_frame(
    path: ImageFile, file: BinaryIO, *, syntax: UID, element: PixelElement, layout: PixelLayout, index: int
) -> Grey:
    """The values of a frame, `(H, W)` or `(H, W, 3)`; YBR of any kind comes as RGB.

    Raises ImageError for a transfer syntax without a decoder, with the package that has one where there is
    one, for pixels that are shown to be damaged, and for whatever else the decoders refuse.
    """
    decoder = _decoder(path, syntax)
    is_cut = _is_cut(path, file, element)
    file.seek(element.start)
    try:
        frame = get_frame(file, index, number_of_frames=layout.frames)
    except ValueError:  # counts of fragments and of frames that do not fit
        if is_cut:
            raise damaged(path, "DICOM", shown="one that ends inside its pixels") from None
        raise refusal(
            path,
            must=f"hold as many compressed frames as its header counts, {layout.frames:,}",
            got="fewer or more",
            do=_ELSEWHERE,
        ) from None
    if not _begins_well(syntax, frame):
        raise damaged(path, "DICOM", shown="one whose compressed frame does not begin as one")
    # Within the data of such a stream its end marker cannot stand.
    has_end = syntax == RLELossless or JPEG_END in frame
    if is_cut and not has_end:  # some decoders fill in what is missing
        raise damaged(path, "DICOM", shown="one that ends inside its pixels")
    try:
        return _decoded(decoder, frame, element, layout)
    except RuntimeError:  # pydicom's sum of what its plug-ins raised
        missing = _plugin(syntax, default="")
        if is_cut:
            raise damaged(path, "DICOM", shown="one that ends inside its pixels") from None
        if not has_end and not missing:
            raise damaged(path, "DICOM", shown="one whose compressed frame has no end marker") from None
        do = f"Try: pip install {missing}. Or save its frames as images." if missing else _ELSEWHERE
        raise _undecodable(path, syntax, do) from None
    except ValueError:  # another number of bytes than the header asks for
        raise refusal(
            path,
            must=f"hold frames of {layout.rows:,} x {layout.columns:,} pixels of {layout.samples} samples, "
            "like its header",
            got="compressed ones of another size or kind",
            do=_ELSEWHERE,
        ) from None


def _decoded(decoder: Decoder, frame: bytes, element: PixelElement, layout: PixelLayout) -> Grey:
    is_rle = decoder.UID == RLELossless  # noqa: SIM300  the other way round it is no name of a value
    values = decoder.as_array(
        encapsulate([frame], has_bot=False),
        index=0,
        rows=layout.rows,
        columns=layout.columns,
        number_of_frames=1,
        samples_per_pixel=layout.samples,
        photometric_interpretation=layout.photometric,
        # Codecs give their samples pixel by pixel, whatever the header says; run lengths lie in planes, which
        # their decoder knows.
        planar_configuration=0,
        bits_allocated=layout.allocated,
        bits_stored=layout.bits,
        pixel_representation=int(layout.signed),
        pixel_keyword=element.keyword,
        # Run lengths carry whole words; other codecs carry samples and have nothing around them.
        correct_unused_bits=not is_rle,
    )[0]
    return own_bits(values, element, layout) if is_rle else values


def _is_cut(path: ImageFile, file: BinaryIO, element: PixelElement) -> bool:
    """Whether the file ends inside the items of its pixels; ImageError where another thing lies there."""
    size, place = file_size(file), element.start
    end = size if element.length == UNDEFINED else element.start + element.length
    while place + 8 <= min(size, end):
        file.seek(place)
        tag, length = struct.unpack("<4sL", file.read(8))
        if tag == _DELIMITER:
            return False
        if tag != _ITEM:
            raise damaged(path, "DICOM", shown="one whose compressed pixels are no row of items")
        place += 8 + length
    return place > size or element.length == UNDEFINED


def _begins_well(syntax: UID, frame: bytes) -> bool:
    """Whether a compressed frame begins with the magic number or the header of its kind."""
    if syntax in JPEG2000TransferSyntaxes:
        return frame.startswith(_JPEG_2000)
    if syntax in {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes}:
        return frame.startswith(_JPEG)
    if syntax == RLELossless:
        count, *starts = struct.unpack("<16L", frame[:64].ljust(64, b"\0"))
        return 1 <= count <= len(starts) and starts[0] == 64 and max(starts[:count]) < len(frame)
    return True


def _decoder(path: ImageFile, syntax: UID) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _undecodable(path, syntax, _ELSEWHERE) from None
    if not decoder.is_available:
        plugin = _plugin(syntax, default="python-gdcm")
        raise _undecodable(path, syntax, f"Install what decodes it: pip install {plugin}")
    return decoder


def _undecodable(path: ImageFile, syntax: UID, do: str) -> ImageError:
    known = syntax.is_transfer_syntax and not syntax.is_private
    name = syntax.name if known else "a private transfer syntax"
    return refusal(path, must="have a compression that installed plug-ins decode", got=name, do=do)


def _plugin(syntax: UID, *, default: str) -> str:
    missing = " ".join(get_decoder(syntax).missing_dependencies)
    plugins = re.findall(r"pylibjpeg-\w+", missing)
    return " ".join(["pylibjpeg", *plugins]) if plugins else default
