"""What shows that a file is damaged: a length, a magic number, a checksum. Nothing else is called so."""

import struct
import zlib
from typing import BinaryIO, Final

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from meddistill.errors import ImageError
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.refusal import refusal

PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_JPEG_START: Final = b"\xff\xd8\xff"
JPEG_END: Final = b"\xff\xd9"
_STEP: Final = 1 << 20
_MOST_INFLATED: Final = 1 << 30
_MOST_PAGES: Final = 1000
_OFFSETS_AND_COUNTS: Final = ((273, 279), (324, 325))  # of strips, of tiles
TIFF_STARTS: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BIG_TIFF: Final = 43
_BMP_HEADERS: Final = 26  # the shorter of the two


def damaged(path: ImageFile, kind: str, *, shown: str) -> ImageError:
    """The error for a file that is damaged as `shown` says: "one that ends inside a chunk"."""
    return refusal(path, must=f"be a whole {kind} file", got=shown, do="Copy the file again.")


def file_size(file: BinaryIO) -> int:
    """Bytes of an open file; its position stays."""
    place = file.tell()
    size = file.seek(0, 2)
    file.seek(place)
    return size


def picture_damage(file: BinaryIO) -> str | None:
    """What is shown to be damaged in a PNG, JPEG, TIFF or BMP; None where nothing is."""
    file.seek(0)
    head = file.read(len(PNG_START))
    if head == PNG_START:
        return _png_damage(file)
    if head.startswith(_JPEG_START):
        return _jpeg_damage(file)
    if head.startswith(b"BM"):
        return "one that ends inside its header" if file_size(file) < _BMP_HEADERS else None
    return _tiff_damage(file)


def _png_damage(file: BinaryIO) -> str | None:
    """Chunks that are cut or whose checksum differs; then pixels that cannot be inflated, or end early."""
    inflater, inflated = zlib.decompressobj(), 0
    while True:
        start = file.read(8)
        if len(start) < 8:
            return "one that ends between two chunks, before the last"
        length, name = struct.unpack(">I4s", start)
        content, checksum = file.read(min(length, file_size(file))), file.read(4)
        if len(content) < length or len(checksum) < 4:
            return "one that ends inside a chunk"
        if zlib.crc32(name + content) != int.from_bytes(checksum, "big"):
            return "one with a chunk whose checksum differs"
        if name == b"IEND":
            return None if inflater.eof or inflated > _MOST_INFLATED else "one whose pixels end early"
        try:
            while name == b"IDAT" and content and not inflater.eof and inflated <= _MOST_INFLATED:
                inflated += len(inflater.decompress(content, _STEP))
                content = inflater.unconsumed_tail
        except zlib.error:
            return "one whose pixels cannot be inflated"


def _jpeg_damage(file: BinaryIO) -> str | None:
    overlap = b""
    while block := file.read(_STEP):
        if JPEG_END in overlap + block:
            return None
        overlap = block[-1:]
    return "one without an end marker"


def tiff_directory(file: BinaryIO) -> ImageFileDirectory_v2:
    """The first directory of a TIFF, to be loaded at its `next`; raises whatever Pillow raises."""
    file.seek(0)
    head = file.read(8)
    return ImageFileDirectory_v2(head + file.read(8) if _BIG_TIFF in head[2:4] else head)


def _tiff_damage(file: BinaryIO) -> str | None:
    """Directories or strips that lie beyond the end of the file."""
    size = file_size(file)
    file.seek(0)
    head = file.read(4)
    # Bytes of the number of entries, and of one entry.
    counted, entry = (8, 20) if _BIG_TIFF in head[2:] else (2, 12)
    try:
        directory = tiff_directory(file)
        for _ in range(_MOST_PAGES):
            if directory.next == 0:
                return None
            file.seek(directory.next)
            count = int.from_bytes(file.read(counted), "little" if head.startswith(b"II") else "big")
            if directory.next + counted + count * entry > size:
                return "one that ends before a directory of its pages does"
            file.seek(directory.next)
            directory.load(file)
            for offsets, counts in _OFFSETS_AND_COUNTS:
                places = zip(directory.get(offsets, ()), directory.get(counts, ()), strict=False)
                if any(offset + length > size for offset, length in places):
                    return "one that ends before its pixels do"
    except Exception:  # whatever Pillow meets in a directory: nothing about lengths was shown
        return "one that ends inside its header" if size < counted + 6 else None
    return None
