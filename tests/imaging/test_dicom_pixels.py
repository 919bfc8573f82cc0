"""DICOM: which bits of a file are pixels, in which order they lie, and what colours they are."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from dicom_files import dataset, write
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

RNG = np.random.default_rng(3)
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
}


def _shown(folder: Path, made: Dataset, syntax: str = "explicit", frame: int | None = None) -> np.ndarray:
    made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    return decode(ImageRef(write(folder, made), frame=frame))


def _raw(made: Dataset, content: bytes, *, vr: str = "OW") -> Dataset:
    made.PixelData = content + bytes(len(content) % 2)
    made["PixelData"].VR = vr
    return made


def _in_words(own: np.ndarray, *, allocated: int, bits: int, high: int) -> np.ndarray:
    """Samples in words of `allocated` bits whose top lies at bit `high`, with noise in all other bits."""
    kind = np.dtype(f"u{allocated // 8}")
    noise = RNG.integers(0, 2 ** min(allocated, 63), own.shape, dtype=np.uint64)
    mask = ((1 << bits) - 1) << (high - bits + 1)
    placed = (own.astype(np.int64) & ((1 << bits) - 1)).astype(np.uint64) << np.uint64(high - bits + 1)
    return ((noise & np.uint64((1 << allocated) - 1 - mask)) | placed).astype(kind)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("allocated", "bits", "high"),
    [
        (8, 6, 5),
        (8, 6, 7),
        (16, 12, 11),
        (16, 12, 15),
        (16, 10, 12),
        (16, 16, 15),
        (32, 20, 19),
        (32, 32, 31),
    ],
)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_only_own_bits_are_pixels(
    tmp_path: Path, *, signed: bool, allocated: int, bits: int, high: int, syntax: str
) -> None:
    least = -(2 ** (bits - 1)) if signed else 0
    own = np.linspace(least, least + 2**bits - 1, 30 * 31).astype(np.int64).reshape(30, 31)
    words = _in_words(own, allocated=allocated, bits=bits, high=high)
    order = ">" if syntax == "big" else "<"
    made = dataset(words, BitsStored=bits, HighBit=high, PixelRepresentation=int(signed))
    vr = "OB" if allocated == 8 and syntax != "implicit" else "OW"
    _raw(made, words.astype(words.dtype.newbyteorder(order)).tobytes(), vr=vr)
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = least + 2**bits / 2, 2**bits, "LINEAR_EXACT"
    expected = np.rint((own - least) / 2**bits * 255)
    assert np.abs(_shown(tmp_path, made, syntax)[:, :, 0] - expected).max() <= 1


def test_overlay_in_high_bits_is_not_shown(tmp_path: Path) -> None:
    own = np.arange(4096).reshape(64, 64)
    drawn = np.zeros((64, 64), np.uint16)
    drawn[20:40, 20:40] = 1 << 15
    made = dataset((own.astype(np.uint16) | drawn), BitsStored=12, HighBit=11)
    for element, vr, value in ((0x10, "US", 64), (0x11, "US", 64), (0x40, "CS", "G"), (0x50, "SS", [1, 1]),
                               (0x100, "US", 16), (0x102, "US", 15)):  # fmt: skip
        made.add_new(0x60000000 | element, vr, value)
    plain = dataset(own.astype(np.uint16), BitsStored=12, HighBit=11)
    assert np.array_equal(_shown(tmp_path, made), _shown(tmp_path, plain))


@pytest.mark.parametrize("high", [11, 15])
def test_own_bits_of_run_lengths(tmp_path: Path, high: int) -> None:
    own = np.arange(4096).reshape(64, 64)
    words = _in_words(own, allocated=16, bits=12, high=high)
    made = dataset(words, BitsStored=12, HighBit=11)
    made.compress(RLELossless)
    made.HighBit = high
    path = write(tmp_path, made)
    plain = dataset(own.astype(np.uint16), BitsStored=12, HighBit=11)
    assert np.array_equal(decode(ImageRef(path)), _shown(tmp_path, plain))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("shape", [(21, 22), (3, 3), (8, 8), (1, 7), (5, 13)])
def test_frames_of_one_bit_anywhere(tmp_path: Path, syntax: str, shape: tuple[int, int]) -> None:
    frames = RNG.integers(0, 2, (11, *shape), dtype=np.uint8)
    made = dataset(frames, BitsAllocated=1, BitsStored=1, HighBit=0)
    content = np.packbits(frames.ravel(), bitorder="little").tobytes()
    content += bytes(len(content) % 2)
    if syntax == "big":
        content = np.frombuffer(content, np.uint16).byteswap().tobytes()
    _raw(made, content)
    for place, frame in enumerate(frames):
        assert np.array_equal(_shown(tmp_path, made, syntax, place)[:, :, 0], frame * 255)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("side", [4, 5])
def test_frames_of_bytes_in_words_of_either_order(tmp_path: Path, syntax: str, side: int) -> None:
    frames = RNG.integers(0, 256, (3, side, side), dtype=np.uint8)
    content = frames.tobytes() + bytes(frames.size % 2)
    if syntax == "big":
        content = np.frombuffer(content, np.uint16).byteswap().tobytes()
    made = _raw(dataset(frames), content)
    for place, frame in enumerate(frames):
        assert np.array_equal(_shown(tmp_path, made, syntax, place)[:, :, 0], frame)


COLOUR = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def _forward(colour: np.ndarray) -> np.ndarray:
    """PS3.3 C.7.6.3.1.2."""
    red, green, blue = np.moveaxis(colour.astype(float), 2, 0)
    luma = 0.2990 * red + 0.5870 * green + 0.1140 * blue
    blueness = -0.1687 * red - 0.3313 * green + 0.5000 * blue + 128
    redness = 0.5000 * red - 0.4187 * green - 0.0813 * blue + 128
    return np.clip(np.rint(np.stack([luma, blueness, redness], axis=2)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize("syntax", ["explicit", "big"])
def test_planes_and_ybr(tmp_path: Path, planar: int, photometric: str, syntax: str) -> None:
    stored = COLOUR if photometric == "RGB" else _forward(COLOUR)
    content = (stored.transpose(2, 0, 1) if planar else stored).tobytes()
    made = dataset(
        COLOUR, SamplesPerPixel=3, PlanarConfiguration=planar, PhotometricInterpretation=photometric
    )
    shown = _shown(tmp_path, _raw(made, content, vr="OB"), syntax).astype(int)
    assert np.abs(shown - COLOUR).max() <= (0 if photometric == "RGB" else 2)


def test_ybr_422_shares_colour_between_neighbours(tmp_path: Path) -> None:
    pairs = np.repeat(COLOUR[:, ::2], 2, axis=1)  # neighbours alike, so that nothing is lost
    ybr = _forward(pairs)
    content = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=2).tobytes()
    made = dataset(pairs, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    shown = _shown(tmp_path, _raw(made, content, vr="OB")).astype(int)
    assert np.abs(shown - pairs).max() <= 2
    with pytest.raises(ImageError, match="three samples a pixel"):
        _shown(tmp_path, _raw(made, pairs.tobytes(), vr="OB"))
    odd = dataset(pairs[:, :7], SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422")
    with pytest.raises(ImageError, match="odd number of columns"):
        _shown(tmp_path, _raw(odd, bytes(6 * 7 * 2), vr="OB"))
    made.PhotometricInterpretation = "YBR_RCT"
    with pytest.raises(ImageError, match="uncompressed ones of JPEG 2000"):
        _shown(tmp_path, made)
    made.PhotometricInterpretation = "RGB"  # what the message advises
    assert np.array_equal(_shown(tmp_path, made), pairs)


@pytest.mark.parametrize("bits", [10, 16])
def test_deep_color_is_scaled_by_its_full_range(tmp_path: Path, bits: int) -> None:
    deep = RNG.integers(0, 2**bits, (4, 6, 3)).astype(np.uint16)
    made = dataset(deep, SamplesPerPixel=3, BitsStored=bits, HighBit=bits - 1)
    assert np.array_equal(_shown(tmp_path, made), np.rint(deep / (2**bits - 1) * 255))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("bits", "packed"), [(8, True), (8, False), (16, False)])
@pytest.mark.parametrize(("signed", "first"), [(False, 0), (False, 30), (True, -100)])
def test_palette(tmp_path: Path, *, syntax: str, bits: int, packed: bool, signed: bool, first: int) -> None:
    stored = np.arange(256).reshape(16, 16) - (128 if signed else 0)
    colours = RNG.integers(0, 256, (150, 3))
    made = dataset(stored.astype(np.int8 if signed else np.uint8), PhotometricInterpretation="PALETTE COLOR")
    _raw(made, made.PixelData, vr="OB")
    order = ">u2" if syntax == "big" else "<u2"
    for place in range(3):
        entries = colours[:, place] * (257 if bits == 16 else 1)
        words = entries.astype("<u2")
        if packed:
            words = np.frombuffer(entries.astype(np.uint8).tobytes(), "<u2")
        made.add_new(0x00281101 + place, "SS" if signed else "US", [150, first, bits])
        made.add_new(0x00281201 + place, "OW", words.astype(order).tobytes())
    expected = colours[np.clip(stored - first, 0, 149)]
    assert np.array_equal(_shown(tmp_path, made, syntax), expected)


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_palette_that_claims_sixteen_bits(tmp_path: Path, factor: int) -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = RNG.integers(0, 256, (256, 3))
    made = dataset(stored, PhotometricInterpretation="PALETTE COLOR")
    for place in range(3):
        made.add_new(0x00281101 + place, "US", [256, 0, 16])
        made.add_new(0x00281201 + place, "OW", (colours[:, place] * factor).astype("<u2").tobytes())
    assert np.array_equal(_shown(tmp_path, made), colours[stored])


def test_palette_without_entries_is_refused(tmp_path: Path) -> None:
    made = dataset(COLOUR[:, :, 0], PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(ImageError, match="palette of its PALETTE COLOR"):
        _shown(tmp_path, made)


@pytest.mark.parametrize(
    ("kind", "keyword", "bits"), [("f4", "FloatPixelData", 32), ("f8", "DoubleFloatPixelData", 64)]
)
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_float_pixels(tmp_path: Path, kind: str, keyword: str, bits: int, syntax: str) -> None:
    values = RNG.normal(size=(12, 13)) * 1e-3
    made = dataset(np.zeros((12, 13), np.uint16), BitsAllocated=bits, WindowCenter=0, WindowWidth=2)
    made.VOILUTFunction, made.RescaleSlope, made.RescaleIntercept = "LINEAR_EXACT", "1000", "0"
    del made.PixelData
    setattr(made, keyword, values.astype(kind).tobytes())
    expected = np.rint(np.clip((values.astype(kind) * 1000 + 1) / 2, 0, 1) * 255)
    assert np.abs(_shown(tmp_path, made, syntax)[:, :, 0] - expected).max() <= 1


def test_float_pixels_with_nan_and_a_window(tmp_path: Path) -> None:
    made = dataset(np.zeros((4, 4), np.uint16), BitsAllocated=32, WindowCenter=8, WindowWidth=16)
    del made.PixelData
    made.FloatPixelData = np.array([np.nan, *range(1, 16)], "<f4").tobytes()
    path = write(tmp_path, made)
    with pytest.raises(ImageError, match="must hold finite values"):
        decode(ImageRef(path))
    shown = decode(ImageRef(path), DecodeOptions(non_finite="black"))[:, :, 0]
    assert shown[0, 0] == 0
    assert shown[3, 3] == 255


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"SamplesPerPixel": 4}, "1 or 3 samples a pixel"),
        ({"BitsAllocated": 24, "BitsStored": 24, "HighBit": 23}, "1, 8, 16, 32 or 64 bits; got 1 of 24"),
        ({"PhotometricInterpretation": "CMYK"}, "photometric interpretation"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "photometric interpretation"),
        ({"Rows": 0}, "a pixel at least; got 0 x 8"),
        ({"Rows": 9}, "hold 144 bytes of pixels .* got 128"),
    ],
)
def test_what_cannot_be_shown_is_named(tmp_path: Path, elements: dict[str, object], named: str) -> None:
    made = dataset(np.arange(64, dtype=np.uint16).reshape(8, 8))
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    with pytest.raises(ImageError, match=named) as caught:
        _shown(tmp_path, made)
    assert "be a whole" not in str(caught.value)


def test_more_compressed_frames_than_fragments(tmp_path: Path) -> None:
    made = dataset(np.arange(64, dtype=np.uint16).reshape(8, 8))
    made.compress(RLELossless)
    made.NumberOfFrames = 3
    with pytest.raises(ImageError, match="as many compressed frames as its header counts, 3"):
        decode(ImageRef(write(tmp_path, made)))


SMOOTH = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
TRIPLE = np.stack([SMOOTH, 255 - SMOOTH, SMOOTH // 2], axis=2)


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream, picture = io.BytesIO(), Image.fromarray(pixels)
    if kind == "JPEG":
        picture.save(stream, kind, quality=98, subsampling=0)
    else:
        picture.save(stream, kind, no_jp2=True, irreversible=False)
    return stream.getvalue()


def _compressed(made: Dataset, frames: list[bytes], syntax: UID) -> Dataset:
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate(frames)
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    return made


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize(
    ("kind", "syntax", "photometric", "off"),
    [
        ("JPEG", JPEGBaseline8Bit, "YBR_FULL_422", 12),
        ("JPEG", JPEGBaseline8Bit, "RGB", 12),
        ("JPEG2000", JPEG2000Lossless, "YBR_RCT", 0),
        ("JPEG2000", JPEG2000Lossless, "RGB", 0),
    ],
)
def test_compressed_colours_lie_pixel_by_pixel(
    tmp_path: Path, *, planar: int, kind: str, syntax: UID, photometric: str, off: int
) -> None:
    made = dataset(TRIPLE, SamplesPerPixel=3, PlanarConfiguration=planar)
    made.PhotometricInterpretation = photometric
    _compressed(made, [_encoded(TRIPLE, kind)], syntax)
    shown = decode(ImageRef(write(tmp_path, made))).astype(int)
    assert np.abs(shown - TRIPLE).max() <= off


@pytest.mark.parametrize("planar", [0, 1])
def test_run_lengths_lie_in_planes(tmp_path: Path, planar: int) -> None:
    made = dataset(TRIPLE, SamplesPerPixel=3)
    made.compress(RLELossless)
    made.PlanarConfiguration = planar
    assert np.array_equal(decode(ImageRef(write(tmp_path, made))), TRIPLE)


@pytest.mark.parametrize(("header", "frame"), [(SMOOTH, TRIPLE), (TRIPLE, SMOOTH), (SMOOTH[:16], SMOOTH)])
def test_compressed_frames_of_another_size_are_named(
    tmp_path: Path, header: np.ndarray, frame: np.ndarray
) -> None:
    made = dataset(header, SamplesPerPixel=3 if header.ndim == 3 else 1)
    _compressed(made, [_encoded(frame, "JPEG")], JPEGBaseline8Bit)
    with pytest.raises(ImageError, match=r"hold frames of .* like its header; .* another size or kind"):
        decode(ImageRef(write(tmp_path, made)))
