"""DICOM: tables of header values and stored values against the greys of the standard's formulas, in numpy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_files import dataset, write
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

UNSIGNED = np.arange(4096, dtype=np.uint16).reshape(64, 64)
SIGNED = (UNSIGNED.astype(np.int16) - 1024).reshape(64, 64)


def _grey(path: Path, frame: int | None = None, **options: Any) -> np.ndarray:
    shown = decode(ImageRef(path, frame=frame), DecodeOptions(**options))
    assert np.array_equal(shown[:, :, 0], shown[:, :, 1])
    return shown[:, :, 0].astype(int)


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(int)


def _by_percentiles(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return _as_bytes((values - low) / (high - low) * 255)


def _by_window(values: np.ndarray, function: str, centre: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, to 0 and 255, as they stand there."""
    x = values.astype(float)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return _as_bytes(255 / (1 + np.exp(-4 * (x - centre) / width)))
    if function == "LINEAR_EXACT":
        return _as_bytes(((x - centre) / width + 0.5) * 255)
    below = x <= centre - 0.5 - (width - 1) / 2
    above = x > centre - 0.5 + (width - 1) / 2
    between = 255 * (((x - (centre - 0.5)) / max(width - 1, 1)) + 0.5)
    return _as_bytes(np.where(below, 0, np.where(above, 255, between)))


@pytest.mark.parametrize("stored", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("rescale", [None, (1, -1024), (2.5, 10), (-1, 0)])
def test_windows(
    tmp_path: Path, stored: np.ndarray, function: str | None, rescale: tuple[float, float] | None
) -> None:
    made = dataset(stored)
    if rescale:
        made.RescaleSlope, made.RescaleIntercept = rescale
    if function:
        made.VOILUTFunction = function
    slope, intercept = rescale or (1, 0)
    values = stored * float(slope) + intercept
    for centre, width in ((40, 400), (1000.5, 3), (900, 1), (0, 2), (100000, 50), (40, 0.5)):
        made.WindowCenter, made.WindowWidth = centre, width
        expected = _by_window(values, function or "LINEAR", centre, width)
        if function in {None, "LINEAR"} and width < 1:  # no window of this function
            expected = _by_percentiles(values)
        # Where a grey lies between two bytes, either is right.
        assert np.abs(_grey(write(tmp_path, made)) - expected).max() <= 1, (centre, width)


@pytest.mark.parametrize(
    ("centre", "width", "taken"),
    [
        ("40\\500", "400\\900", (40, 400)),
        ("9\\1000\\5", "0\\700\\7", (1000, 700)),
        ("9\\1000", "-3\\700", (1000, 700)),
        ("NaN\\1000", "7\\700", (1000, 700)),
        ("\\1000", "9\\700", (1000, 700)),
        ("1000", "700\\3", (1000, 700)),
        ("1000,5", "700,25", (1000.5, 700.25)),
        ("1000,5\\3", "700,25\\4", (1000.5, 700.25)),
        ("1,000.5", "700", (1000.5, 700)),
        ("1.000,5", "2.000,25", (1000.5, 2000.25)),
        (" 1.0005E+03 ", "+700", (1000.5, 700)),
        ("inf", "700", None),
        ("1000", "inf", None),
        ("", "", None),
        ("1000", "", None),
    ],
)
def test_which_window_is_taken(
    tmp_path: Path, centre: str, width: str, taken: tuple[float, float] | None
) -> None:
    made = _with_texts(dataset(UNSIGNED), WindowCenter=centre, WindowWidth=width)
    expected = _by_percentiles(UNSIGNED) if taken is None else _by_window(UNSIGNED, "LINEAR", *taken)
    assert np.abs(_grey(write(tmp_path, made)) - expected).max() <= 1


def _with_texts(made: Dataset, **elements: str) -> Dataset:
    """Decimal strings as they stand, whatever pydicom thinks of them: bytes, in implicit VR."""
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    for keyword, text in elements.items():
        content = text.encode() + b" " * (len(text) % 2)
        made[keyword] = DataElement(Tag(keyword), "OB", content)
    return made


@pytest.mark.parametrize(
    ("slope", "intercept", "applied"),
    [
        ("2", "-1024", (2, -1024)),
        ("2,5", "-10,5", (2.5, -10.5)),
        ("-1", "4095", (-1, 4095)),
        ("2.8707939353E-06", "0", (2.8707939353e-06, 0)),
        ("1E-30", "1", None),
        ("1E+306", "0", None),
        ("", "-1024", (1, -1024)),
        ("2", "", (2, 0)),
        ("", "", None),
        ("0", "0", None),
        ("0", "-1024", None),
        ("NaN", "5", None),
        ("inf", "5", None),
        ("2", "NaN", (2, 0)),
    ],
)
def test_rescale(tmp_path: Path, slope: str, intercept: str, applied: tuple[float, float] | None) -> None:
    made = _with_texts(dataset(UNSIGNED), RescaleSlope=slope, RescaleIntercept=intercept)
    path = write(tmp_path, made)
    factor, shift = applied or (1, 0)
    values = UNSIGNED * float(factor) + shift
    assert np.abs(_grey(path) - _by_percentiles(values)).max() <= 1
    window = (float(np.median(values)), float(np.ptp(values)) / 3)
    assert np.abs(_grey(path, window=window) - _by_window(values, "LINEAR_EXACT", *window)).max() <= 1


def test_intercept_without_a_slope(tmp_path: Path) -> None:
    path = write(tmp_path, dataset(UNSIGNED, RescaleIntercept="-1024"))
    expected = _by_window(UNSIGNED - 1024.0, "LINEAR_EXACT", 40, 400)
    assert np.abs(_grey(path, window=(40, 400)) - expected).max() <= 1


@pytest.mark.parametrize("keyword", ["WindowCenter", "RescaleSlope", "RescaleIntercept"])
def test_text_in_place_of_a_number_is_named(tmp_path: Path, keyword: str) -> None:
    made = _with_texts(dataset(UNSIGNED, WindowWidth=9), **{keyword: "wide "})
    path = write(tmp_path, made)
    with pytest.raises(ImageError, match=f"numbers in its element {keyword}") as caught:
        decode(ImageRef(path))
    assert "wide" not in str(caught.value)
    del made[keyword]
    setattr(made, keyword, 9)  # what the message advises
    assert _grey(write(tmp_path, made)).max() == 255


# --- look-up tables -------------------------------------------------------------------------------------

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
}


def _lut_item(first: int, entries: np.ndarray, bits: int, *, packed: bool, vr: str, syntax: UID) -> Dataset:
    item = Dataset()
    words = [len(entries) % 65536, first % 65536, bits]
    if vr == "SS":
        words = [word - 65536 if word > 32767 else word for word in words]
    item.add_new(0x00283002, vr, words)
    stored = entries.astype("<u2")
    if packed:
        content = entries.astype(np.uint8).tobytes() + bytes(len(entries) % 2)
        stored = np.frombuffer(content, "<u2")
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    item.add_new(0x00283006, "OW", stored.astype(order).tobytes())
    return item


@pytest.mark.parametrize(
    ("syntax", "vr"), [("explicit", "US"), ("explicit", "SS"), ("implicit", "US"), ("big", "SS")]
)
@pytest.mark.parametrize(
    ("stored", "intercept", "first"),
    [(UNSIGNED, -1024, -160), (UNSIGNED, 0, 100), (SIGNED, 0, -500), (SIGNED, 1024, 200),
     (UNSIGNED + 40000, 0, 40500), (UNSIGNED + 40000, -40000, -20)],
    ids=["rescaled below zero", "unsigned", "signed", "signed rescaled above zero", "high", "high, rescaled"],
)  # fmt: skip
@pytest.mark.parametrize(("bits", "packed"), [(8, True), (8, False), (16, False)])
def test_voi_lut(
    tmp_path: Path,
    *,
    syntax: str,
    vr: str,
    stored: np.ndarray,
    intercept: int,
    first: int,
    bits: int,
    packed: bool,
) -> None:
    table = np.rint(np.linspace(2**bits - 1, 0, 401)).astype(int)  # falling, of an odd length
    item = _lut_item(first, table, bits, packed=packed, vr=vr, syntax=SYNTAXES[syntax])
    made = dataset(
        stored.astype(stored.dtype.newbyteorder(">")) if syntax == "big" else stored,
        RescaleSlope=1,
        RescaleIntercept=intercept,
        VOILUTSequence=Sequence([item]),
    )
    made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    expected = table[np.clip(stored.astype(int) + intercept - first, 0, 400)] / (2**bits - 1) * 255
    assert np.array_equal(_grey(write(tmp_path, made)), _as_bytes(expected))


@pytest.mark.parametrize("bits", [8, 16])
def test_voi_lut_of_65536_entries(tmp_path: Path, bits: int) -> None:
    stored = (UNSIGNED * 16).astype(np.uint16)
    table = np.rint(np.linspace(0, 2**bits - 1, 65536) ** 0.5 * (2**bits - 1) ** 0.5).astype(int)
    item = _lut_item(0, table, bits, packed=bits == 8, vr="US", syntax=ExplicitVRLittleEndian)
    shown = _grey(write(tmp_path, dataset(stored, VOILUTSequence=Sequence([item]))))
    assert np.array_equal(shown, _as_bytes(table[stored] / (2**bits - 1) * 255))


@pytest.mark.parametrize("what", ["no data", "two numbers", "none"])
def test_voi_lut_that_makes_no_sense_leaves_the_window(tmp_path: Path, what: str) -> None:
    item = _lut_item(0, np.arange(9), 16, packed=False, vr="US", syntax=ExplicitVRLittleEndian)
    if what == "no data":
        del item.LUTData
    elif what == "two numbers":
        item.LUTDescriptor = [9, 0]
    else:
        del item.LUTDescriptor
    made = dataset(UNSIGNED, VOILUTSequence=Sequence([item]), WindowCenter=900, WindowWidth=800)
    assert np.array_equal(_grey(write(tmp_path, made)), _by_window(UNSIGNED, "LINEAR", 900, 800))


def test_entries_of_more_bits_than_claimed(tmp_path: Path) -> None:
    table = np.arange(4096)
    item = _lut_item(0, table, 8, packed=False, vr="US", syntax=ExplicitVRLittleEndian)
    shown = _grey(write(tmp_path, dataset(UNSIGNED, VOILUTSequence=Sequence([item]))))
    assert np.array_equal(shown, _as_bytes(UNSIGNED / 4095 * 255))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("stored", "first"), [(UNSIGNED, 50), (SIGNED, -900)], ids=["unsigned", "signed"])
def test_modality_lut_then_window(tmp_path: Path, syntax: str, stored: np.ndarray, first: int) -> None:
    table = np.rint(np.linspace(3000, 100, 2000)).astype(int)
    item = _lut_item(first, table, 16, packed=False, vr="US", syntax=SYNTAXES[syntax])
    made = dataset(
        stored.astype(stored.dtype.newbyteorder(">")) if syntax == "big" else stored,
        ModalityLUTSequence=Sequence([item]),
        WindowCenter=1500,
        WindowWidth=2000,
    )
    made.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    units = table[np.clip(stored.astype(int) - first, 0, 1999)]
    assert np.array_equal(_grey(write(tmp_path, made)), _by_window(units, "LINEAR", 1500, 2000))


def test_modality_lut_without_entries_is_named(tmp_path: Path) -> None:
    made = dataset(UNSIGNED, ModalityLUTSequence=Sequence([Dataset()]))
    with pytest.raises(ImageError, match="ModalityLUTSequence"):
        decode(ImageRef(write(tmp_path, made)))
    del made.ModalityLUTSequence
    assert _grey(write(tmp_path, made)).max() == 255


@pytest.mark.parametrize(("greatest", "divisor"), [(100, 100), (1, 1), (255, 255), (None, 255), (0, 255)])
def test_fractions_of_a_segmentation(tmp_path: Path, greatest: int | None, divisor: int) -> None:
    stored = np.tile(np.arange(divisor + 1, dtype=np.uint8), (4, 1))
    made = dataset(stored, SegmentationType="FRACTIONAL")
    if greatest is not None:
        made.MaximumFractionalValue = greatest
    assert np.array_equal(_grey(write(tmp_path, made)), _as_bytes(stored / divisor * 255))
