"""Sixteen bits a sample where Pillow keeps eight: grey with opacity, RGB and RGBA of PNG and TIFF.

Pillow's decoders unpack such samples into bytes and drop one of the two. Unpacked a second time as if their
bytes were in the other order, they give the other byte.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from meddistill.imaging.intensity import Grey

Open = Callable[[], ImageFile.ImageFile]
_FULL: Final = 65535
_NATIVE: Final = "L" if sys.byteorder == "little" else "B"
_GREY_AND_OPACITY: Final = "LA;16B"
_PREMULTIPLIED: Final = "RGBa"


def packing(image: ImageFile.ImageFile) -> str:
    """How the samples of an opened picture are packed, in Pillow's words: "RGB;16B"."""
    arguments: Any = image.tile[0].args if image.tile else ""
    return str(arguments if isinstance(arguments, str) else arguments[0])


def is_deep(packed: str) -> bool:
    """Whether Pillow would drop the lower byte of such samples, and `deep_values` can read both."""
    return packed == _GREY_AND_OPACITY or _both(packed) is not None


def deep_values(opened: Open) -> Grey:
    """The samples `(H, W, channels)` uint16 of a deep picture, upright; `opened` opens it each time.

    Colour that was multiplied by its opacity (TIFF's associated alpha) is divided by it again.
    """
    packed = packing(opened())
    if packed == _GREY_AND_OPACITY:  # four bytes a pixel, as RGBA of 8 bits has
        bytes_ = _unpacked(opened(), "RGBA").astype(np.uint16)
        return bytes_[:, :, [0, 2]] << 8 | bytes_[:, :, [1, 3]]
    upper, lower = _both(packed) or ("", "")
    values = _unpacked(opened(), upper).astype(np.uint16) << 8 | _unpacked(opened(), lower)
    return _divided(values) if packed.startswith(_PREMULTIPLIED) else values


def _both(packed: str) -> tuple[str, str] | None:
    """The packings that unpack upper and lower bytes."""
    bands, _, depth = packed.partition(";")
    if bands not in {"RGB", "RGBX", "RGBA", _PREMULTIPLIED} or depth not in {"16L", "16B", "16N"}:
        return None
    order = _NATIVE if depth[-1] == "N" else depth[-1]
    name = "RGBA" if bands == _PREMULTIPLIED else bands
    return f"{name};16{order}", f"{name};16{'B' if order == 'L' else 'L'}"


def _unpacked(image: ImageFile.ImageFile, packed: str) -> NDArray[np.uint8]:
    image.tile = [tile._replace(args=_repacked(tile.args, packed)) for tile in image.tile]
    image.load()
    return np.asarray(upright(image))


def _repacked(arguments: Any, packed: str) -> Any:
    return packed if isinstance(arguments, str) else (packed, *arguments[1:])


def upright(image: Image.Image) -> Image.Image:
    """A loaded picture turned as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF beside sound pixels: Pillow raises various errors
        return image


def _divided(values: Grey) -> Grey:
    opacity = values[:, :, 3:].astype(np.float64)
    color = np.rint(values[:, :, :3] * (_FULL / np.maximum(opacity, 1))).clip(0, _FULL)
    return np.concatenate([color.astype(np.uint16), values[:, :, 3:]], axis=2)
