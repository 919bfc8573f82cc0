"""What a file is, from its first bytes; its name is not asked."""

import gzip
import struct
import zlib
from typing import Literal

from meddistill.errors import ImageError
from meddistill.imaging.damage import TIFF_STARTS, damaged
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.refusal import not_readable, refusal, unread

Kind = Literal["picture", "tiff", "dicom", "nifti", "nifti_gz"]
READABLE = "PNG, JPEG, TIFF, BMP, DICOM and NIfTI can be read."

_HEAD = 544  # a NIfTI-2 header and the DICOM preamble both fit
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
# The first element of a DICOM data set written without preamble: group 0002 or 0008 in little endian.
_BARE_DICOM = tuple(
    group + b"\0" + element + b"\0"
    for group, elements in ((b"\x02", b"\x00\x01\x02\x10"), (b"\x08", b"\x00\x01\x05\x08\x12\x16"))
    for element in (bytes([number]) for number in elements)
)


def sniff(path: ImageFile) -> Kind:
    """The kind of a file, from its content.

    Raises ImageError for a path that is missing, no regular file, unreadable, empty, or of no known kind.
    """
    head = _head(path)
    if head[:2] == b"\x1f\x8b":
        return _inside_gzip(path)
    kind = _kind(head)
    if kind is None:
        got = "text" if _is_text(head) else "something else"
        raise refusal(path, must="hold an image", got=got, do=READABLE)
    if kind == "nifti":
        _refuse_pair(path, head)
    return kind


def _kind(head: bytes) -> Kind | None:
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(TIFF_STARTS):
        return "tiff"
    if head.startswith(_PICTURES):
        return "picture"
    if _is_nifti(head):
        return "nifti"
    if head.startswith(_BARE_DICOM):
        return "dicom"
    return None


def _head(path: ImageFile) -> bytes:
    try:
        if path.is_dir():
            raise refusal(path, must="be a file", got="a folder", do="Name the image itself.")
        if not path.is_file():
            raise refusal(path, must="exist", got="no such file", do="Mend the path.")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise not_readable(path, error) from None
    if not head:
        raise refusal(path, must="hold an image", got="0 bytes", do="Copy the file again.")
    return head


def _inside_gzip(path: ImageFile) -> Kind:
    try:
        with path.open("rb") as packed, gzip.open(packed) as file:
            head = file.read(_HEAD)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:  # its magic number, length, stream or checksum
        shown = f"one whose compressed data are broken or end early ({type(error).__name__})"
        raise damaged(path, "gzip", shown=shown) from None
    except OSError as error:
        raise unread(path, "gzip file", error, words="") from None
    if not _is_nifti(head):
        raise refusal(
            path, must="hold an image", got="a gzip file without NIfTI inside", do="Unpack it. " + READABLE
        )
    _refuse_pair(path, head)
    return "nifti_gz"


def _is_nifti(head: bytes) -> bool:
    return _header_size(head) in {348, 540} and (
        head[344:347] in {b"n+1", b"ni1"} or head[4:7] in {b"n+2", b"ni2"}
    )


def _header_size(head: bytes) -> int:
    little: int = struct.unpack("<i", head[:4].ljust(4, b"\0"))[0]
    big: int = struct.unpack(">i", head[:4].ljust(4, b"\0"))[0]
    return little if little in {348, 540} else big


def _refuse_pair(path: ImageFile, head: bytes) -> None:
    if b"ni1" in head[344:347] or b"ni2" in head[4:7]:
        raise refusal(
            path,
            must="hold header and voxels",
            got="the header of a NIfTI pair (.hdr and .img)",
            do="Save the pair as one .nii or .nii.gz file.",
        )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)
