"""PNG, JPEG, TIFF and BMP through Pillow."""

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from meddistill.errors import ImageError
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.intensity import Bytes, show_grey, three_channels
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.refusal import refusal, silence_libraries, within
from meddistill.imaging.sniff import damaged

# Formats are named, so that no other Pillow plug-in (EPS calls Ghostscript) is ever tried. Their plug-ins are
# imported, because `Image.open` loads none for named formats.
_FORMATS = [file.format for file in (PngImageFile, JpegImageFile, TiffImageFile, BmpImageFile)]
_DEEP_GREY = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0


def decode_picture(path: ImageFile, frame: int | None, options: DecodeOptions) -> Bytes:
    """A picture as `(H, W, 3)` uint8, upright by its EXIF orientation.

    Grey deeper than 8 bits is windowed as `DecodeOptions` says; 16-bit colour keeps its upper byte. Opacity
    is dropped, as the preprocessing of CLIP models does. `frame` selects a page of a TIFF, by default the
    first.
    """
    silence_libraries()
    try:
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if frame is not None:
                image.seek(within(path, "frame", frame, count=getattr(image, "n_frames", 1), default=0))
            width, height = image.size
            if width * height > options.max_pixels:
                raise _too_large(path, f"{width:,} x {height:,}", options.max_pixels)
            return _pixels(path, image, options)
    except ImageError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise _too_large(path, "far more", options.max_pixels) from None
    except Exception:  # Pillow's plug-ins raise anything from SyntaxError to struct.error on damaged files
        raise damaged(path, "PNG, JPEG, TIFF or BMP") from None


def _too_large(path: ImageFile, got: str, limit: int) -> ImageError:
    return refusal(
        path, must=f"have at most {limit:,} pixels", got=got, do="Scale it down or raise `max_pixels`."
    )


def _pixels(path: ImageFile, image: Image.Image, options: DecodeOptions) -> Bytes:
    white_is_zero = _is_deep_white_is_zero(image)
    image.load()
    upright = _upright(image)
    if upright.mode not in _DEEP_GREY:
        return np.array(upright.convert("RGB"))
    grey = show_grey(path, np.asarray(upright), options)
    return three_channels(255 - grey if white_is_zero else grey)


def _is_deep_white_is_zero(image: Image.Image) -> bool:
    # Pillow inverts such TIFFs up to 8 bits itself and leaves deeper ones as they are.
    tags = getattr(image, "tag_v2", {})
    return image.mode in _DEEP_GREY and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF beside sound pixels: Pillow raises various errors
        return image
