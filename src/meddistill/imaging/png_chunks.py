"""PNG files whose notes are broken beside sound pixels.

Pillow refuses a whole picture for a text that is too long or a chunk of colorimetry that is too short.
Neither has a part in pixels here: gamma and profiles are not applied, opacity is dropped.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from meddistill.errors import ImageError
from meddistill.imaging.damage import PNG_START, picture_damage

_Read = TypeVar("_Read")
_OF_PIXELS: Final = (b"IHDR", b"PLTE", b"eXIf", b"IDAT", b"IEND")


def read_past_notes(read: Callable[[BinaryIO], _Read], file: BinaryIO) -> _Read:
    """What `read` makes of a file, or of its pixels alone if it is a whole PNG and `read` fails.

    Raises what `read` raises.
    """
    try:
        return read(file)
    except (ImageError, MemoryError):
        raise
    except Exception:  # Pillow's plug-ins raise anything
        lean = _pixels_alone(file)
        if lean is None:
            raise
        return read(lean)


def _pixels_alone(file: BinaryIO) -> BinaryIO | None:
    file.seek(0)
    if file.read(len(PNG_START)) != PNG_START or picture_damage(file) is not None:
        return None
    file.seek(len(PNG_START))
    kept, name = [PNG_START], b""
    while name != b"IEND":
        start = file.read(8)
        length, name = struct.unpack(">I4s", start)
        rest = file.read(length + 4)
        if name in _OF_PIXELS:
            kept += [start, rest]
    return io.BytesIO(b"".join(kept))
