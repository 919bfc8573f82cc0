"""A tiny pyramidal TIFF that OpenSlide reads: tiled, uncompressed, each level half of the last."""

import struct
from pathlib import Path

import numpy as np

_TILE = 64
_SHORT, _LONG, _RATIONAL = 3, 4, 5


def write_slide(path: Path, pixels: np.ndarray, *, levels: int = 3, mpp: float | None = 0.25) -> Path:
    """`pixels` [h, w, 3] uint8 as level 0; `mpp` in micrometres, None writes no resolution."""
    content = bytearray(b"II*\x00\x00\x00\x00\x00")
    link = 4  # where the offset of the next directory is written
    for level in range(levels):
        step = 2**level
        height, width = (length // step for length in pixels.shape[:2])
        view = pixels[: height * step, : width * step].reshape(height, step, width, step, 3)
        tiles = _tiles(view.mean(axis=(1, 3)).astype(np.uint8))
        places = []
        for tile in tiles:
            places.append(len(content))
            content += tile
        entries = [
            (254, _LONG, [int(level > 0)]),
            (256, _LONG, [width]),
            (257, _LONG, [height]),
            (258, _SHORT, [8, 8, 8]),
            (259, _SHORT, [1]),
            (262, _SHORT, [2]),
            (277, _SHORT, [3]),
            (284, _SHORT, [1]),
            (322, _LONG, [_TILE]),
            (323, _LONG, [_TILE]),
            (324, _LONG, places),
            (325, _LONG, [len(tile) for tile in tiles]),
        ]
        if mpp is not None:
            pixels_per_centimetre = (round(10_000 / mpp / step * 1000), 1000)
            entries += [(282, _RATIONAL, [pixels_per_centimetre]), (283, _RATIONAL, [pixels_per_centimetre])]
            entries += [(296, _SHORT, [3])]
        place = _directory(content, sorted(entries))
        struct.pack_into("<I", content, link, place)
        link = place + 2 + 12 * len(entries)
    path.write_bytes(content)
    return path


def _tiles(pixels: np.ndarray) -> list[bytes]:
    height, width = pixels.shape[:2]
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    whole = np.zeros((rows * _TILE, columns * _TILE, 3), dtype=np.uint8)
    whole[:height, :width] = pixels
    return [
        whole[r * _TILE : (r + 1) * _TILE, c * _TILE : (c + 1) * _TILE].tobytes()
        for r in range(rows)
        for c in range(columns)
    ]


def _directory(content: bytearray, entries: list[tuple[int, int, list]]) -> int:
    formats = {_SHORT: "H", _LONG: "I", _RATIONAL: "II"}
    packed = []
    for tag, kind, values in entries:
        flat = [number for value in values for number in (value if isinstance(value, tuple) else (value,))]
        data = struct.pack("<" + formats[kind] * len(values), *flat)
        if len(data) > 4:
            if len(content) % 2:
                content += b"\0"
            place = len(content)
            content += data
            data = struct.pack("<I", place)
        packed.append(struct.pack("<HHI", tag, kind, len(values)) + data.ljust(4, b"\0"))
    if len(content) % 2:
        content += b"\0"
    place = len(content)
    content += struct.pack("<H", len(packed)) + b"".join(packed) + struct.pack("<I", 0)
    return place
