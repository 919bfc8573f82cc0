"""DICOM: values against pydicom's own processing, and every branch of what is shown."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_files import dataset, write
from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, ImageRef, decode

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
CT = (np.arange(64 * 64).reshape(64, 64) - 1024).astype(np.int16)


def _grey(path: Path, **options: object) -> np.ndarray:
    shown = decode(ImageRef(path), DecodeOptions(**options))
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[:, :, 0], shown[:, :, 2])
    return shown[:, :, 0].astype(int)


def _shipped(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom does not ship {name} here")
    return Path(path)


def _pydicom_window(made: Dataset) -> np.ndarray:
    """pydicom's window, whose output range is that of the modality values, as 0 to 255."""
    values = apply_voi_lut(apply_modality_lut(made.pixel_array, made), made)
    low, high = (
        (-(2.0 ** (made.BitsStored - 1)), 2.0 ** (made.BitsStored - 1) - 1)
        if made.PixelRepresentation
        else (0.0, 2.0**made.BitsStored - 1)
    )
    slope, intercept = float(made.get("RescaleSlope", 1)), float(made.get("RescaleIntercept", 0))
    low, high = low * slope + intercept, high * slope + intercept
    return np.rint((values - low) / (high - low) * 255).astype(int)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_window_equals_pydicoms(tmp_path: Path, function: str | None) -> None:
    made = dataset(
        CT, WindowCenter=[40, 600], WindowWidth=[400, 1500], RescaleSlope="2", RescaleIntercept="-24"
    )
    if function:
        made.VOILUTFunction = function
    assert np.abs(_grey(write(tmp_path, made)) - _pydicom_window(made)).max() <= 1


def test_shipped_mr_uses_its_window() -> None:
    path = _shipped("MR_small.dcm")
    assert np.abs(_grey(path) - _pydicom_window(dcmread(path))).max() <= 1


def test_shipped_ct_has_no_window_and_uses_percentiles() -> None:
    path = _shipped("CT_small.dcm")
    made = dcmread(path)
    values = apply_modality_lut(made.pixel_array, made)
    kept = values[made.pixel_array != made.PixelPaddingValue]
    low, high = np.percentile(kept, (0.5, 99.5))
    expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
    assert np.array_equal(_grey(path), expected)


def test_own_window_wins_over_the_files(tmp_path: Path) -> None:
    path = write(
        tmp_path, dataset(CT, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-24)
    )
    shown = _grey(path, window=(0, 200))
    units = CT.astype(int) - 24
    assert np.all(shown[units <= -100] == 0)
    assert np.all(shown[units >= 100] == 255)
    assert shown[units == 20] == 153


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    plain = _grey(write(tmp_path, dataset(RAMP)))
    inverted = _grey(write(tmp_path, dataset(RAMP, PhotometricInterpretation="MONOCHROME1")))
    assert np.array_equal(inverted, 255 - plain)


@pytest.mark.parametrize("width", [0, 0.5, -5])
def test_senseless_window_falls_back_to_percentiles(tmp_path: Path, width: int) -> None:
    without = _grey(write(tmp_path, dataset(RAMP)))
    assert np.array_equal(_grey(write(tmp_path, dataset(RAMP, WindowCenter=9, WindowWidth=width))), without)


def test_eight_bits_without_a_window_are_shown_as_they_are(tmp_path: Path) -> None:
    array = np.arange(40, 140, dtype=np.uint8).reshape(10, 10)
    assert np.array_equal(_grey(write(tmp_path, dataset(array))), array)


def test_the_recipes_window_is_for_values_deeper_than_eight_bits(tmp_path: Path) -> None:
    array = np.arange(40, 140, dtype=np.uint8).reshape(10, 10)
    path = write(tmp_path, dataset(array))
    assert np.array_equal(_grey(path, window=(40, 400)), array)
    rescaled = write(tmp_path, dataset(array, RescaleSlope=10, RescaleIntercept=-1024))
    units = array * 10.0 - 1024
    assert np.array_equal(_grey(rescaled, window=(40, 400)) > 0, units > -160 + 0.5 * 400 / 255)


def test_the_first_window_that_makes_sense_is_taken(tmp_path: Path) -> None:
    several = dataset(RAMP, WindowCenter=[9, 1000, 5], WindowWidth=[0, 700, 7])
    one = dataset(RAMP, WindowCenter=1000, WindowWidth=700)
    found = _grey(write(tmp_path, several))
    assert np.array_equal(found, _grey(write(tmp_path, one)))


def test_one_bit_of_eight_is_black_and_white(tmp_path: Path) -> None:
    array = np.array([[0, 1], [1, 0]], np.uint8)
    made = dataset(array, BitsStored=1, HighBit=0)
    assert np.array_equal(_grey(write(tmp_path, made)), array * 255)


def test_twelve_bits_signed_without_window(tmp_path: Path) -> None:
    shown = _grey(write(tmp_path, dataset(CT)))
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.all(np.diff(shown.ravel()) >= 0)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_voi_lut_sequence(tmp_path: Path, bits: int) -> None:
    item = Dataset()
    table = np.linspace(2**bits - 1, 0, 2000).astype(int)  # falling, so that it cannot be mistaken
    item.LUTDescriptor = [2000, 100, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = [int(value) for value in table]
    item["LUTData"].VR = "US"
    shown = _grey(
        write(tmp_path, dataset(RAMP, VOILUTSequence=Sequence([item]), WindowCenter=5, WindowWidth=9))
    )
    expected = np.rint(table[np.clip(RAMP.astype(int) - 100, 0, 1999)] / (2**bits - 1) * 255)
    assert np.array_equal(shown, expected)


def test_modality_lut_sequence(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = np.arange(4095, -1, -1, dtype="<u2").tobytes()
    item["LUTData"].VR = "OW"
    item.ModalityLUTType = "US"
    shown = _grey(write(tmp_path, dataset(RAMP, ModalityLUTSequence=Sequence([item]))), window=(2000, 1000))
    expected = _grey(write(tmp_path, dataset(RAMP[::-1, ::-1].copy())), window=(2000, 1000))
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("value", [-2000, 63536], ids=["signed", "unsigned"])
def test_padding_is_black_and_has_no_part_in_percentiles(tmp_path: Path, value: int) -> None:
    padded = CT.copy()
    padded[:20] = -2000
    made = dataset(padded, PhotometricInterpretation="MONOCHROME1")
    made.add_new(0x00280120, "SS" if value < 0 else "US", value)
    shown = _grey(write(tmp_path, made))
    alone = _grey(write(tmp_path, dataset(CT[20:].copy(), PhotometricInterpretation="MONOCHROME1")))
    assert not shown[:20].any()
    assert np.array_equal(shown[20:], alone)


def test_frame_index_and_its_range(tmp_path: Path) -> None:
    frames = np.stack([np.full((4, 5), value, np.uint8) for value in (10, 20, 30, 40)])
    path = write(tmp_path, dataset(frames))
    seen = [int(decode(ImageRef(path, frame=frame))[0, 0, 0]) for frame in (0, 1, 3, None)]
    assert seen == [10, 20, 40, 30]  # the middle frame by default
    for frame in (4, -1):
        with pytest.raises(ImageError, match=r"`frame` in \[0, 3\]"):
            decode(ImageRef(path, frame=frame))


@pytest.mark.parametrize("selector", ["axis", "slice"])
def test_nifti_selectors_are_refused(tmp_path: Path, selector: str) -> None:
    with pytest.raises(ImageError, match=f"has a `{selector}`; got a DICOM file"):
        decode(ImageRef(write(tmp_path, dataset(RAMP)), **{selector: 0}))


def test_enhanced_multi_frame_takes_its_own_rescale_and_window(tmp_path: Path) -> None:
    frames = np.stack([CT, CT])
    groups = []
    for intercept in (0, 500):
        transformation, voi, group = Dataset(), Dataset(), Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = 1, intercept
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = 500, 1000, "LINEAR_EXACT"
        group.PixelValueTransformationSequence = Sequence([transformation])
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    path = write(tmp_path, dataset(frames, PerFrameFunctionalGroupsSequence=Sequence(groups)))
    for frame, intercept in ((0, 0), (1, 500)):
        shown = decode(ImageRef(path, frame=frame))[:, :, 0]
        assert np.array_equal(shown, np.rint(np.clip((CT + intercept) / 1000, 0, 1) * 255))


def test_colour_is_kept_and_sixteen_bits_scaled(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    deep = colour.astype(np.uint16) * 257
    assert np.array_equal(decode(ImageRef(write(tmp_path, dataset(colour, SamplesPerPixel=3)))), colour)
    assert np.array_equal(decode(ImageRef(write(tmp_path, dataset(deep, SamplesPerPixel=3)))), colour)


@pytest.mark.parametrize("name", ["SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_16bit.dcm"])
def test_shipped_colour_equals_the_plain_file(name: str) -> None:
    plain = pixel_array(_shipped("SC_rgb_rle.dcm"))
    assert np.abs(decode(ImageRef(_shipped(name))).astype(int) - plain).mean() < 2


def test_shipped_palette_is_in_colour() -> None:
    shown = decode(ImageRef(_shipped("examples_palette.dcm"))).astype(int)
    assert np.abs(shown[:, :, 0] - shown[:, :, 2]).max() > 50


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm",
     "MR_small_jp2klossless.dcm", "MR_small_padded.dcm"],
)  # fmt: skip
def test_lossless_syntaxes_give_the_same_picture(name: str) -> None:
    assert np.array_equal(_grey(_shipped(name)), _grey(_shipped("MR_small.dcm")))


@pytest.mark.parametrize(
    ("name", "plugin"),
    [("MR_small_jpeg_ls_lossless.dcm", "pylibjpeg-libjpeg"), ("SC_rgb_jpeg_gdcm.dcm", "pylibjpeg-libjpeg"),
     ("GDCMJ2K_TextGBR.dcm", "pylibjpeg-openjpeg"), ("JPGExtended.dcm", "pylibjpeg-libjpeg")],
)  # fmt: skip
def test_missing_plugin_is_named(name: str, plugin: str) -> None:
    try:
        decode(ImageRef(_shipped(name)))
    except ImageError as error:
        assert "pip install" in str(error)  # noqa: PT017  the plug-in may be installed, then it decodes
        assert plugin in str(error)  # noqa: PT017


def test_video_has_no_plugin_to_install(tmp_path: Path) -> None:
    made = dataset(RAMP)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    from pydicom.encaps import encapsulate

    made.PixelData = encapsulate([b"\0\0\0\0"])
    made["PixelData"].is_undefined_length = True
    with pytest.raises(ImageError, match=r"got MPEG2 Main Profile .* Save its frames as images"):
        decode(ImageRef(write(tmp_path, made)))


@pytest.mark.parametrize("name", ["rtplan.dcm", "test-SR.dcm", "waveform_ecg.dcm", "rtstruct.dcm"])
def test_files_without_pixels(name: str) -> None:
    with pytest.raises(ImageError, match="must hold pixels; got a DICOM file without any"):
        decode(ImageRef(_shipped(name)))


def test_data_set_without_preamble_or_without_meta(tmp_path: Path) -> None:
    made = dataset(RAMP, WindowCenter=2000, WindowWidth=1000)
    path = write(tmp_path, made)
    expected, whole = _grey(path), path.read_bytes()
    for start in (132, whole.index(b"\x08\x00\x16\x00UI")):
        path.write_bytes(whole[start:])
        assert np.array_equal(_grey(path), expected)


def test_deflated_file_and_deflated_bomb(tmp_path: Path) -> None:
    made = dataset(RAMP, WindowCenter=2000, WindowWidth=1000)
    expected = _grey(write(tmp_path, made))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = write(tmp_path, made, "deflated.dcm")
    assert np.array_equal(_grey(path), expected)
    whole = path.read_bytes()
    start = 144 + dcmread(path).file_meta.FileMetaInformationGroupLength
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([*(compressor.compress(bytes(1 << 20)) for _ in range(64)), compressor.flush()])
    path.write_bytes(whole[:start] + bomb)
    with pytest.raises(ImageError, match="a deflated file of more bytes"):
        decode(ImageRef(path), DecodeOptions(max_voxels=1 << 24))


def test_sizes_are_checked_before_decoding(tmp_path: Path) -> None:
    wide = write(tmp_path, dataset(RAMP, Rows=65000, Columns=65000), "wide.dcm")
    long = write(tmp_path, dataset(RAMP, NumberOfFrames=2_000_000_000), "long.dcm")
    for path in (wide, long):
        with pytest.raises(ImageError, match="must have at most 100,000,000 pixels a frame"):
            decode(ImageRef(path))


def test_float_pixels_with_nan(tmp_path: Path) -> None:
    made = dataset(RAMP, BitsAllocated=32)
    values = np.linspace(0, 1, 4096, dtype="<f4")
    values[7] = np.nan
    del made.PixelData
    made.FloatPixelData = values.tobytes()
    path = write(tmp_path, made)
    with pytest.raises(ImageError, match="must hold finite values"):
        decode(ImageRef(path))
    assert _grey(path, non_finite="black").ravel()[7] == 0


def test_float_pixels_need_no_bits_stored(tmp_path: Path) -> None:
    made = dataset(RAMP, BitsAllocated=32)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, keyword)
    made.FloatPixelData = np.linspace(0, 1, 4096, dtype="<f4").tobytes()
    shown = _grey(write(tmp_path, made))
    assert (shown.min(), shown.max()) == (0, 255)
