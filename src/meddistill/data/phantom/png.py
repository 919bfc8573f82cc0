"""A PNG encoder for small noisy pictures: a third of the time of a general one.

It stands beside Pillow's since that filters rows and ends blocks elsewhere, whatever the settings, and other
bytes would be other image keys, with other random views.
"""

import struct
import zlib

import numpy as np

from meddistill.data.phantom.draw import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _COLOR = 0, 2


def encode_png(pixels: Pixels) -> bytes:
    """PNG bytes of uint8 pixels, gray (h, w) or colour (h, w, 3).

    Rows are unfiltered and only runs are sought: noise holds nothing else to find.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    stream = zlib.compressobj(level=1, strategy=zlib.Z_RLE)
    data = stream.compress(rows.tobytes()) + stream.flush()
    color = _COLOR if pixels.ndim == 3 else _GRAY
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
