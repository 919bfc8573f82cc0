"""PNG and TIFF: tables of depth, opacity and arrangement against the greys of the formulas, in numpy.

The files are written here byte by byte, for Pillow writes few of these kinds.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode
from meddistill.imaging.label_maps import decode_labels

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 12, 19
TWELVE = np.linspace(0, 4095, HEIGHT * WIDTH).astype(np.int64).reshape(HEIGHT, WIDTH)


def _percentiles(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(int)


def _shown(path: Path, **selectors: int) -> np.ndarray:
    return decode(ImageRef(path, **selectors)).astype(int)


def _three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


# --- PNG ------------------------------------------------------------------------------------------------


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _packed_rows(samples: np.ndarray, bits: int) -> list[bytes]:
    rows = samples.reshape(len(samples), -1)
    if bits >= 8:
        return [row.astype(f">u{bits // 8}").tobytes() for row in rows]
    spread = (rows[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in spread]


def _filtered(rows: list[bytes], step: int) -> bytes:
    """Every filter of the standard in turn: none, sub, up, average, Paeth."""
    above, done = np.zeros(len(rows[0]), np.int64), b""
    for number, row in enumerate(rows):
        here = np.frombuffer(row, np.uint8).astype(np.int64)
        left = np.concatenate([np.zeros(step, np.int64), here])[: len(here)]
        corner = np.concatenate([np.zeros(step, np.int64), above])[: len(here)]
        guess = left + above - corner
        distances = np.abs(guess - np.stack([left, above, corner]))
        paeth = np.take_along_axis(np.stack([left, above, corner]), distances.argmin(axis=0)[None], axis=0)[0]
        predicted = [np.zeros_like(here), left, above, (left + above) // 2, paeth][number % 5]
        done += bytes([number % 5]) + ((here - predicted) % 256).astype(np.uint8).tobytes()
        above = here
    return done


ADAM_7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def _png(
    folder: Path, samples: np.ndarray, *, bits: int, kind: int, interlaced: bool = False, **chunks: bytes
) -> Path:
    """A PNG of `kind` 0 grey, 2 RGB, 3 palette, 4 grey with opacity, 6 RGBA."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], bits, kind, 0, 0, interlaced)
    passes = (
        [samples[top::down, left::right] for top, down, left, right in ADAM_7] if interlaced else [samples]
    )
    step = max(1, bits * channels // 8)
    data = zlib.compress(b"".join(_filtered(_packed_rows(each, bits), step) for each in passes))
    extra = b"".join(_chunk(name.encode(), content) for name, content in chunks.items())
    path = folder / "a.png"
    parts = _chunk(b"IHDR", head), extra, _chunk(b"IDAT", data), _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("chunks", [{}, {"tRNS": b"\0\1"}, {"gAMA": struct.pack(">I", 100_000)}], ids=str)
def test_png_grey_of_few_bits_spans_black_to_white(
    tmp_path: Path, bits: int, chunks: dict[str, bytes]
) -> None:
    stored = RNG.integers(0, 2**bits, (HEIGHT, WIDTH))
    path = _png(tmp_path, stored, bits=bits, kind=0, **chunks)
    assert np.array_equal(_shown(path), _three(stored * 255 // (2**bits - 1)))


OPACITIES = {"opaque": np.full((HEIGHT, WIDTH), 65535), "clear": np.zeros((HEIGHT, WIDTH), np.int64),
             "any": RNG.integers(0, 65536, (HEIGHT, WIDTH))}  # fmt: skip


@pytest.mark.parametrize("opacity", ["none", "tRNS", *OPACITIES])
def test_png_deep_grey_is_windowed_whatever_its_opacity(tmp_path: Path, opacity: str) -> None:
    if opacity in OPACITIES:
        samples = np.stack([TWELVE, OPACITIES[opacity]], axis=2)
        path = _png(tmp_path, samples, bits=16, kind=4, interlaced=opacity == "any")
    else:
        path = _png(tmp_path, TWELVE, bits=16, kind=0, **({"tRNS": b"\0\1"} if opacity == "tRNS" else {}))
    assert np.array_equal(_shown(path), _three(_percentiles(TWELVE)))
    window = decode(ImageRef(path), DecodeOptions(window=(1000, 1000)))[:, :, 0]
    assert np.array_equal(window, np.rint(np.clip((TWELVE - 500) / 1000, 0, 1) * 255))


@pytest.mark.parametrize("kind", [2, 6])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png_deep_color_is_scaled_by_its_full_range(tmp_path: Path, kind: int, *, interlaced: bool) -> None:
    colour = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3 if kind == 2 else 4))
    path = _png(tmp_path, colour, bits=16, kind=kind, interlaced=interlaced)
    assert np.array_equal(_shown(path), np.rint(colour[:, :, :3] / 65535 * 255))


@pytest.mark.parametrize("kind", [2, 6])
def test_png_deep_grey_saved_as_colour_is_windowed(tmp_path: Path, kind: int) -> None:
    samples = np.stack([TWELVE] * 3 + [OPACITIES["any"]] * (kind == 6), axis=2)
    path = _png(tmp_path, samples, bits=16, kind=kind)
    assert np.array_equal(_shown(path), _three(_percentiles(TWELVE)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_palette(tmp_path: Path, bits: int, *, transparent: bool) -> None:
    colours = RNG.integers(0, 256, (2**bits, 3))
    stored = RNG.integers(0, 2**bits, (HEIGHT, WIDTH))
    chunks = {"PLTE": colours.astype(np.uint8).tobytes()} | ({"tRNS": b"\0\x80"} if transparent else {})
    assert np.array_equal(_shown(_png(tmp_path, stored, bits=bits, kind=3, **chunks)), colours[stored])


@pytest.mark.parametrize(
    "chunk",
    [
        {"zTXt": b"k\0\0" + zlib.compress(b"x" * (3 << 20))},
        {"iTXt": b"k\0\1\0\0\0" + zlib.compress(b"x" * (3 << 20))},
        {"pHYs": b"\0"},
        {"gAMA": b"\0"},
        {"cHRM": b"\0\1"},
        {"tRNS": b"\0"},
    ],
    ids=lambda chunk: next(iter(chunk)),
)
@pytest.mark.parametrize("bits", [8, 16])
def test_png_with_a_broken_note_is_shown(tmp_path: Path, chunk: dict[str, bytes], bits: int) -> None:
    stored = TWELVE if bits == 16 else TWELVE // 16
    path = _png(tmp_path, stored, bits=bits, kind=0, **chunk)
    assert np.array_equal(_shown(path), _three(_percentiles(stored) if bits == 16 else stored))
    if bits == 8:
        assert np.array_equal(decode_labels(ImageRef(path)), stored)


@pytest.mark.parametrize("kind", [4, 6])
def test_png_opacity_of_eight_bits_is_dropped(tmp_path: Path, kind: int) -> None:
    samples = RNG.integers(0, 256, (HEIGHT, WIDTH, {4: 2, 6: 4}[kind]))
    expected = _three(samples[:, :, 0]) if kind == 4 else samples[:, :, :3]
    assert np.array_equal(_shown(_png(tmp_path, samples, bits=8, kind=kind)), expected)


# --- TIFF -----------------------------------------------------------------------------------------------

SHORT, LONG = 3, 4
BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES, ROWS, COUNTS = 258, 259, 262, 273, 277, 278, 279
PLANES, PREDICTOR, COLOUR_MAP, EXTRA, FORMAT = 284, 317, 320, 338, 339
WHITE, BLACK, RGB, PALETTE = 0, 1, 2, 3
UNSIGNED, INTEGER, FLOAT = 1, 2, 3


def _tiff(folder: Path, content: bytes, tags: dict[int, int | list[int]], *, order: str = "<") -> Path:
    """A TIFF of one strip; of one a plane where `PLANES` is 2, of several where `ROWS` are fewer than all."""
    planes = tags[SAMPLES] if tags.get(PLANES) == 2 else HEIGHT // tags.get(ROWS, HEIGHT)
    length = len(content) // planes
    every = {256: WIDTH, 257: HEIGHT, COMPRESSION: 1, ROWS: HEIGHT, **tags}
    every |= {OFFSETS: [8 + place * length for place in range(planes)], COUNTS: [length] * planes}
    entries, extra, start = b"", b"", 8 + len(content) + 2 + 12 * len(every) + 4
    for tag, value in sorted(every.items()):
        values = value if isinstance(value, list) else [value]
        kind = LONG if tag in {OFFSETS, COUNTS} else SHORT
        field = struct.pack(f"{order}{len(values)}{'HI'[kind == LONG]}", *values)
        if len(field) > 4:
            extra, field = extra + field, struct.pack(order + "I", start + len(extra))
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + field.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(content))
    path = folder / "a.tif"
    path.write_bytes(head + content + struct.pack(order + "H", len(every)) + entries + bytes(4) + extra)
    return path


def _grey_tags(bits: int, kind: int = UNSIGNED, photometric: int = BLACK) -> dict[int, int | list[int]]:
    return {BITS: bits, PHOTOMETRIC: photometric, SAMPLES: 1, FORMAT: kind}


DEEP = {
    "u2": TWELVE, "i2": TWELVE - 2000, "u4": TWELVE + 2**31 - 2000, "i4": TWELVE * 1000 - 2_000_000,
    "i1": TWELVE // 16 - 128, "f4": TWELVE / 4095 - 0.5,
}  # fmt: skip


# Pillow has no decoder for these.
UNREAD = {("u4", ">", BLACK), ("u2", ">", WHITE)} | {
    (name, order, WHITE) for name in ("i2", "u4", "i4", "i1") for order in "<>"
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("photometric", [BLACK, WHITE], ids=["black is zero", "white is zero"])
def test_tiff_grey_of_any_type_is_windowed_or_refused(
    tmp_path: Path, order: str, name: str, photometric: int
) -> None:
    kind = {"u": UNSIGNED, "i": INTEGER, "f": FLOAT}[name[0]]
    tags = _grey_tags(8 * int(name[1]), kind, photometric)
    path = _tiff(tmp_path, DEEP[name].astype(order + name).tobytes(), tags, order=order)
    expected = _percentiles(DEEP[name].astype(name).astype(float))
    if (name, order, photometric) in UNREAD:
        with pytest.raises(ImageError, match=f"1 samples of {8 * int(name[1])} bits"):
            decode(ImageRef(path))
        return
    assert np.array_equal(_shown(path), _three(255 - expected if photometric == WHITE else expected))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("predicted", [False, True])
def test_tiff_grey_of_any_type_deflated(tmp_path: Path, order: str, name: str, *, predicted: bool) -> None:
    if (name, order, BLACK) in UNREAD or (predicted and name == "f4"):
        return
    stored = DEEP[name].astype(order + name)
    written = np.diff(stored, axis=1, prepend=np.zeros((HEIGHT, 1), stored.dtype)) if predicted else stored
    content = zlib.compress(written.astype(stored.dtype).tobytes())
    tags = _grey_tags(8 * int(name[1]), {"u": UNSIGNED, "i": INTEGER, "f": FLOAT}[name[0]])
    path = _tiff(tmp_path, content, tags | {COMPRESSION: 8, PREDICTOR: 1 + predicted}, order=order)
    assert np.array_equal(_shown(path), _three(_percentiles(stored.astype(float))))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [BLACK, WHITE], ids=["black is zero", "white is zero"])
def test_tiff_grey_of_few_bits(tmp_path: Path, bits: int, photometric: int) -> None:
    stored = RNG.integers(0, 2**bits, (HEIGHT, WIDTH))
    path = _tiff(tmp_path, b"".join(_packed_rows(stored, bits)), _grey_tags(bits, photometric=photometric))
    grey = stored * 255 // (2**bits - 1)
    assert np.array_equal(_shown(path), _three(255 - grey if photometric == WHITE else grey))


def test_tiff_of_twelve_bits(tmp_path: Path) -> None:
    even = np.concatenate([TWELVE, TWELVE[:, :1]], axis=1)[:, :20]
    spread = (even[:, :, None] >> np.arange(11, -1, -1)) & 1
    rows = b"".join(np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in spread)
    path = _tiff(tmp_path, rows, _grey_tags(12) | {256: 20})
    assert np.array_equal(_shown(path), _three(_percentiles(even)))


def _colour_tags(bits: int, samples: int, extra: int | None = None) -> dict[int, int | list[int]]:
    tags: dict[int, int | list[int]] = {BITS: [bits] * samples, PHOTOMETRIC: RGB, SAMPLES: samples}
    return tags if extra is None else tags | {EXTRA: extra}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extra", [None, 0, 1, 2], ids=["RGB", "another", "associated", "opacity"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("packed", [False, True], ids=["strips", "deflated"])
def test_tiff_colour_with_and_without_opacity(
    tmp_path: Path, *, order: str, extra: int | None, bits: int, packed: bool
) -> None:
    full = 2**bits - 1
    colour = RNG.integers(0, full + 1, (HEIGHT, WIDTH, 3))
    opacity = RNG.integers(full // 2, full + 1, (HEIGHT, WIDTH, 1))
    stored = colour * opacity // full if extra == 1 else colour
    samples = stored if extra is None else np.concatenate([stored, opacity], axis=2)
    content = samples.astype(f"{order}u{bits // 8}").tobytes()
    tags = _colour_tags(bits, samples.shape[2], extra) | ({COMPRESSION: 8} if packed else {ROWS: 4})
    path = _tiff(tmp_path, zlib.compress(content) if packed else content, tags, order=order)
    expected = np.rint(np.clip(stored * full / opacity if extra == 1 else stored, 0, full) / full * 255)
    assert np.abs(_shown(path) - expected).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "deflated"])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_planes_of_colour_are_right_or_refused(
    tmp_path: Path, *, order: str, packed: bool, bits: int
) -> None:
    colour = RNG.integers(0, 2**bits, (HEIGHT, WIDTH, 3))
    planes = [colour[:, :, place].astype(f"{order}u{bits // 8}").tobytes() for place in range(3)]
    if packed:
        planes = [zlib.compress(plane) for plane in planes]
        planes = [plane.ljust(max(map(len, planes)), b"\0") for plane in planes]
    tags = _colour_tags(bits, 3) | {PLANES: 2, COMPRESSION: 8 if packed else 1}
    path = _tiff(tmp_path, b"".join(planes), tags, order=order)
    if bits == 8:
        assert np.array_equal(_shown(path), colour)
        return
    with pytest.raises(ImageError, match="16 bits pixel by pixel"):  # Pillow reads half the bytes
        decode(ImageRef(path))


@pytest.mark.parametrize("extra", [0, 1, 2], ids=["another", "associated", "opacity"])
def test_tiff_grey_of_eight_bits_with_opacity(tmp_path: Path, extra: int) -> None:
    grey, opacity = (RNG.integers(128, 256, (HEIGHT, WIDTH)) for _ in range(2))
    stored = grey * opacity // 255 if extra == 1 else grey
    content = np.stack([stored, opacity], axis=2).astype(np.uint8).tobytes()
    tags = {BITS: [8, 8], PHOTOMETRIC: BLACK, SAMPLES: 2, EXTRA: extra}
    expected = np.clip(np.rint(stored * 255 / opacity), 0, 255) if extra == 1 else stored
    assert np.abs(_shown(_tiff(tmp_path, content, tags)) - _three(expected)).max() <= 1


@pytest.mark.parametrize("factor", [1, 256, 257], ids=["8 bits", "by 256", "by 257"])
@pytest.mark.parametrize("bits", [4, 8])
def test_tiff_palette(tmp_path: Path, factor: int, bits: int) -> None:
    colours = RNG.integers(0, 256, (2**bits, 3))
    stored = RNG.integers(0, 2**bits, (HEIGHT, WIDTH))
    tags = {BITS: bits, PHOTOMETRIC: PALETTE, SAMPLES: 1, COLOUR_MAP: (colours.T * factor).ravel().tolist()}
    path = _tiff(tmp_path, b"".join(_packed_rows(stored, bits)), tags)
    assert np.array_equal(_shown(path), colours[stored])


@pytest.mark.parametrize(
    ("tags", "bits"),
    [
        ({BITS: [16, 16], PHOTOMETRIC: BLACK, SAMPLES: 2, EXTRA: 2}, 16),
        ({BITS: 16, PHOTOMETRIC: BLACK, SAMPLES: 1, FORMAT: FLOAT}, 16),
        ({BITS: 64, PHOTOMETRIC: BLACK, SAMPLES: 1, FORMAT: FLOAT}, 64),
        ({BITS: [32] * 3, PHOTOMETRIC: RGB, SAMPLES: 3, FORMAT: [FLOAT] * 3}, 32),
        ({BITS: [16] * 4, PHOTOMETRIC: 5, SAMPLES: 4}, 16),
    ],
)
def test_tiff_of_a_kind_that_nobody_reads_is_named(
    tmp_path: Path, tags: dict[int, int | list[int]], bits: int
) -> None:
    path = _tiff(tmp_path, bytes(HEIGHT * WIDTH * bits // 8 * int(tags[SAMPLES])), tags)
    with pytest.raises(ImageError, match=f"of {bits} bits") as caught:
        _shown(path)
    assert "be a whole" not in str(caught.value)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("written", ["PNG", "TIFF", "white is zero"])
def test_labels_of_few_bits_stay_what_was_written(tmp_path: Path, bits: int, written: str) -> None:
    labels = RNG.integers(0, 2**bits, (HEIGHT, WIDTH))
    if written == "PNG":
        path = _png(tmp_path, labels, bits=bits, kind=0)
    else:
        tags = _grey_tags(bits, photometric=WHITE if written != "TIFF" else BLACK)
        path = _tiff(tmp_path, b"".join(_packed_rows(labels, bits)), tags)
    assert np.array_equal(decode_labels(ImageRef(path)), labels)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiff_that_does_not_say_what_is_black(tmp_path: Path, bits: int) -> None:
    stored = TWELVE * (2**bits - 1) // 4095
    path = _tiff(tmp_path, b"".join(_packed_rows(stored, bits)), {BITS: bits, SAMPLES: 1}, order=">")
    grey = _percentiles(stored) if bits == 16 else stored * 255 // (2**bits - 1)
    if bits == 16:
        with pytest.raises(ImageError, match="1 samples of 16 bits"):  # Pillow takes it for white as zero
            _shown(path)
        return
    assert np.array_equal(_shown(path), _three(grey))


@pytest.mark.parametrize("shares", [(2, 1), (2, 2), None])
def test_tiff_whose_neighbours_share_colour_is_not_called_damaged(
    tmp_path: Path, shares: tuple[int, int] | None
) -> None:
    across, down = shares or (2, 2)
    blocks = -(-WIDTH // across) * -(-HEIGHT // down)
    tags = {BITS: [8] * 3, PHOTOMETRIC: 6, SAMPLES: 3} | ({530: list(shares)} if shares else {})
    path = _tiff(tmp_path, bytes(blocks * (across * down + 2)), tags)
    with pytest.raises(ImageError, match="3 samples of 8 bits, unsigned, YCbCr, in fewer bytes") as caught:
        _shown(path)
    assert "be a whole" not in str(caught.value)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressed_pages(tmp_path: Path, compression: str) -> None:
    pages = [Image.fromarray((TWELVE + shift).astype(np.uint16)) for shift in (0, 500)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=[pages[1].rotate(180)], compression=compression)
    assert np.array_equal(_shown(path), _three(_percentiles(TWELVE)))
    assert np.array_equal(_shown(path, frame=1), _three(_percentiles(TWELVE[::-1, ::-1])))
