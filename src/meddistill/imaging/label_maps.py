"""Label maps: pictures whose values are names of structures, not brightness."""

from dataclasses import replace
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from meddistill.imaging.deep_color import packing
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes
from meddistill.imaging.options import DEFAULT_OPTIONS, DecodeOptions, ImageRef
from meddistill.imaging.pictures import open_page, refuse_too_large, stored_values, tiff_tags
from meddistill.imaging.pillow_errors import reading_picture
from meddistill.imaging.png_chunks import read_past_notes
from meddistill.imaging.refusal import refusal, silence_libraries
from meddistill.imaging.sniff import sniff

# JPEG is left out: it smears labels into values that nobody drew.
_FORMATS = [file.format for file in (PngImageFile, TiffImageFile, BmpImageFile)]
_JPEG: Final = b"\xff\xd8\xff"
_ONE_CHANNEL: Final = {"1", "L", "P", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_MOST: Final = 255
_SPREAD: Final = {"2": 85, "4": 17}


def decode_labels(ref: ImageRef, options: DecodeOptions = DEFAULT_OPTIONS) -> Bytes:
    """The label map that `ref` names, `(H, W)` uint8; values are kept as they are stored, never windowed.

    PNG, TIFF and BMP of one channel (of a palette the indices count, not its colours), or one slice of a
    NIfTI volume, upright as `decode_nifti` shows it. A map that stands beside an image may carry that image's
    selectors: a picture has use for `frame` alone, and only if it is a TIFF. Nothing is resampled.

    Raises ImageError for what `decode` refuses, for DICOM and JPEG, several channels, and labels that are not
    whole numbers from 0 to 255.
    """
    kind = sniff(ref.path)
    if kind == "dicom":
        raise refusal(ref.path, must="hold labels", got="a DICOM file", do="Save it as PNG or NIfTI.")
    if kind in {"nifti", "nifti_gz"}:
        from meddistill.imaging.nifti import nifti_slice  # nibabel costs 0.3 s

        return _labels(ref.path, nifti_slice(ref, options, compressed=kind == "nifti_gz"))
    frame = ref.frame if kind == "tiff" else None
    return _labels(ref.path, _picture(replace(ref, frame=frame), options))


def _picture(ref: ImageRef, options: DecodeOptions) -> NDArray[Any]:
    silence_libraries()
    path = ref.path
    with path.open("rb") as file:
        if file.read(3) == _JPEG:
            raise refusal(path, must="keep labels exactly", got="a JPEG", do="Save it as PNG.")
        with reading_picture(path, file, options):
            return read_past_notes(lambda content: _decoded(ref, content, options), file)


def _decoded(ref: ImageRef, file: BinaryIO, options: DecodeOptions) -> NDArray[Any]:
    with open_page(ref.path, file, ref.frame, formats=_FORMATS) as image:
        _check(ref.path, image, options)
        tags, packed = tiff_tags(image), packing(image)
        image.load()
        return _as_written(stored_values(image, tags), packed)


def _as_written(values: NDArray[Any], packed: str) -> NDArray[Any]:
    """Grey of few bits, which Pillow spreads to 0 to 255, and of white as zero, which it inverts, as written.

    `packed` is how Pillow calls it: "L;4" for four bits, "L;4I" if they are inverted.
    """
    bands, _, how = packed.partition(";")
    if bands not in {"1", "L"}:
        return values
    written = ~values if "I" in how else values
    return written // _SPREAD[how[0]] if how[:1] in _SPREAD else written


def _check(path: ImageFile, image: Image.Image, options: DecodeOptions) -> None:
    refuse_too_large(path, image, options)
    if image.mode not in _ONE_CHANNEL:
        raise refusal(
            path, must="hold labels in one channel", got=image.mode, do="Save it as a grey PNG, 0 outside."
        )


def _labels(path: ImageFile, values: NDArray[Any]) -> Bytes:
    rule, do = f"hold whole numbers from 0 to {_MOST}", "Write the labels again, 0 outside all structures."
    if values.dtype.fields or np.iscomplexobj(values):
        raise refusal(path, must=rule, got="colours or complex numbers", do=do)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if not np.isfinite(values).all():
        raise refusal(path, must=rule, got="NaN or infinity", do=do)
    low, high = values.min(), values.max()
    if low < 0 or high > _MOST:
        raise refusal(path, must=rule, got=f"values from {low:g} to {high:g}", do=do)
    labels = values.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise refusal(path, must=rule, got="fractions", do=do)
    return labels
