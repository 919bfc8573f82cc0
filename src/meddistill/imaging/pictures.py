"""PNG, JPEG, TIFF and BMP through Pillow."""

from collections.abc import Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from meddistill.imaging import file_part
from meddistill.imaging.byte_order import in_native_order
from meddistill.imaging.deep_color import deep_values, is_deep, packing, upright
from meddistill.imaging.intensity import Bytes, Grey, show_grey, stretch, three_channels
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.picture import Picture
from meddistill.imaging.pillow_errors import reading_picture
from meddistill.imaging.png_chunks import read_past_notes
from meddistill.imaging.refusal import refusal, silence_libraries, within

# Formats are named, so that no other Pillow plug-in (EPS calls Ghostscript) is ever tried. Their plug-ins are
# imported, because `Image.open` loads none for named formats.
_FORMATS: Final = [file.format for file in (PngImageFile, JpegImageFile, TiffImageFile, BmpImageFile)]
_DEEP_GREY: Final = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _COLOUR_MAP, _SAMPLE_FORMAT = 258, 259, 262, 284, 320, 339
_FAX: Final = {2, 3, 4}
_WHITE_IS_ZERO, _SEPARATE, _UNSIGNED, _SIGNED = 0, 2, 1, 2
_FULL: Final = 65535


def decode_picture(path: file_part.ImageFile, frame: int | None, options: DecodeOptions) -> Picture:
    """A picture as `(H, W, 3)` uint8, upright by its EXIF orientation.

    Grey deeper than 8 bits is windowed as `DecodeOptions` says, and so is 16-bit colour whose three channels
    are equal; other 16-bit colour is scaled by its full range. Opacity is dropped, as the preprocessing of
    CLIP models does; colour that was multiplied by it is divided by it before. Gamma and colour profiles are
    not applied. `frame` selects a page of a TIFF, by default the first.
    """
    silence_libraries()
    with path.open("rb") as file, reading_picture(path, file, options):
        return read_past_notes(lambda content: _decoded(path, content, frame, options), file)


def _decoded(path: file_part.ImageFile, file: BinaryIO, frame: int | None, options: DecodeOptions) -> Picture:
    with open_page(path, file, frame, formats=_FORMATS) as image:
        refuse_too_large(path, image, options)
        _refuse_deep_planes(path, image)
        if not is_deep(packing(image)):
            return _picture(path, image, options)
    values = deep_values(lambda: open_page(path, file, frame, formats=_FORMATS))
    return Picture(_deep_picture(path, values, options), values)


def open_page(
    path: file_part.ImageFile, file: BinaryIO, frame: int | None, *, formats: list[str]
) -> ImageFile.ImageFile:
    """The picture in an open file, at the page that is asked for; nothing is decoded."""
    file.seek(0)
    image = Image.open(file, formats=formats)
    if frame is not None:
        image.seek(within(path, "frame", frame, count=getattr(image, "n_frames", 1), default=0))
    in_native_order(image)
    return image


def refuse_too_large(path: file_part.ImageFile, image: Image.Image, options: DecodeOptions) -> None:
    """Raises ImageError for an opened picture of more than `options.max_pixels`."""
    width, height = image.size
    if width * height > options.max_pixels:
        raise refusal(
            path,
            must=f"have at most {options.max_pixels:,} pixels",
            got=f"{width:,} x {height:,}",
            do="Scale it down or raise `max_pixels`.",
        )


def stored_values(image: Image.Image, tags: Mapping[int, Any]) -> Grey:
    """The samples of a loaded picture as its TIFF `tags` mean them: Pillow takes some for the other sign."""
    values = np.asarray(image)
    bits, kind = (tags.get(tag, (1,))[0] for tag in (_BITS, _SAMPLE_FORMAT))
    if image.mode == "I" and (bits, kind) == (32, _UNSIGNED):
        return values.view(np.uint32)
    return values.view(np.int8) if image.mode == "L" and (bits, kind) == (8, _SIGNED) else values


def tiff_tags(image: Image.Image) -> Mapping[int, Any]:
    """The tags of an opened TIFF; none for other formats."""
    return dict(getattr(image, "tag_v2", {}))


def _refuse_deep_planes(path: file_part.ImageFile, image: ImageFile.ImageFile) -> None:
    """Of these arrangements of several samples Pillow reads half the bytes."""
    tags = tiff_tags(image)
    bits = tags.get(_BITS, (1,))
    one_by_one = tags.get(_PLANES, 1) != _SEPARATE
    if len(bits) > 1 and max(bits) > 8 and not (one_by_one and is_deep(packing(image))):
        raise refusal(
            path,
            must="keep colour of 16 bits pixel by pixel, as RGB",
            got=f"{len(bits)} samples of {bits[0]} bits in another arrangement",
            do="Save it as PNG, or with 8 bits.",
        )


def _picture(path: file_part.ImageFile, image: ImageFile.ImageFile, options: DecodeOptions) -> Picture:
    tags = tiff_tags(image)
    image.load()
    turned = upright(image)
    stored = stored_values(turned, tags)
    if turned.mode in _DEEP_GREY or stored.dtype == np.int8:
        grey = show_grey(path, stored, options)
        # Pillow inverts such TIFFs up to 8 bits itself and leaves deeper ones as they are.
        white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        return Picture(three_channels(255 - grey if white_is_zero else grey), stored)
    if turned.mode in {"P", "PA"} and _COLOUR_MAP in tags:
        return Picture(_mapped(stored, tags[_COLOUR_MAP]), stored)
    plain = turned.convert("LA") if turned.mode == "La" else turned
    pixels = np.array(plain.convert("RGB"))
    # Without the tag Pillow inverts grey up to 8 bits; fax codes alone have white as zero by nature.
    unnamed = bool(tags) and _PHOTOMETRIC not in tags and tags.get(_COMPRESSION, 1) not in _FAX
    return Picture(255 - pixels if unnamed and turned.mode in {"1", "L"} else pixels, stored)


def _deep_picture(path: file_part.ImageFile, values: Grey, options: DecodeOptions) -> Bytes:
    color = values[:, :, :3] if values.shape[2] > 2 else values[:, :, :1]
    if all(np.array_equal(color[:, :, 0], color[:, :, place]) for place in range(1, color.shape[2])):
        return three_channels(show_grey(path, color[:, :, 0], options))
    return stretch(color, 0, _FULL)


def _mapped(stored: Grey, color_map: tuple[int, ...]) -> Bytes:
    """Indices through a TIFF's colour map, of 16 bits by their upper byte; some writers fill in 8 bits."""
    table = np.array(color_map, dtype=np.int64).reshape(3, -1).T
    colors = (table if table.max() <= 255 else table >> 8).astype(np.uint8)
    return colors[stored if stored.ndim == 2 else stored[:, :, 0]]
