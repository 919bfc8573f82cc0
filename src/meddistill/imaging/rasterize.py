"""A decoded picture to the raster of a model, and rasters to what the model reads."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from meddistill.imaging.geometry import Geometry, InputSpec
from meddistill.imaging.intensity import Bytes

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def rasterize(image: Bytes, geometry: Geometry) -> Bytes:
    """A picture `(H, W, 3)` as the raster `(height, width, 3)` of `geometry`, antialiased, uint8.

    The pixels are those of the PIL transforms that CLIP-like models were published with: `squash` and
    `crop` (short side to the target, centre cut) equal torchvision's Resize and CenterCrop, and open_clip's
    for targets that are not square; `pad` equals open_clip's `longest` (long side to the target, black
    round it).
    """
    height, width = image.shape[:2]
    rows, columns = _scaled(height, width, geometry)
    picture = Image.fromarray(image)
    if (rows, columns) != (height, width):
        picture = picture.resize((columns, rows), _FILTERS[geometry.interpolation])
    return _fit(np.asarray(picture), geometry)


def seen_box(height: int, width: int, geometry: Geometry) -> tuple[float, float, float, float]:
    """Which box of a picture `(height, width)` its raster shows: (top, left, bottom, right) in its pixels.

    Edges, not centres: (0, 0, height, width) is the whole. `crop` shows less, `pad` reaches outside.
    """
    rows, columns = _scaled(height, width, geometry)
    top, bottom = _seen(rows, geometry.height, height / rows)
    left, right = _seen(columns, geometry.width, width / columns)
    return top, left, bottom, right


def _seen(side: int, target: int, pixels: float) -> tuple[float, float]:
    """Ends of what is seen of one side; as `_fit` pads and cuts. `pixels` of the picture make one of it."""
    start = -((target - side) // 2) if target > side else round((side - target) / 2)
    return start * pixels, (start + target) * pixels


def normalize(rasters: Bytes, spec: InputSpec) -> NDArray[np.float32]:
    """Rasters `(n, h, w, 3)` uint8 to `(n, 3, h, w)` float32: `(x / 255 - mean) / std` by channel."""
    scaled = rasters.astype(np.float32) / np.float32(255)
    scaled -= np.asarray(spec.mean, dtype=np.float32)
    scaled /= np.asarray(spec.std, dtype=np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _scaled(height: int, width: int, geometry: Geometry) -> tuple[int, int]:
    """Rows and columns after resampling. The two roundings are those of torchvision and of open_clip."""
    if geometry.resize == "squash":
        return geometry.height, geometry.width
    if geometry.resize == "crop" and geometry.height == geometry.width:
        short, target = min(height, width), geometry.height
        long = int(target * max(height, width) / short)
        return (target, long) if height <= width else (long, target)
    ratios = height / geometry.height, width / geometry.width
    ratio = min(ratios) if geometry.resize == "crop" else max(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _fit(image: Bytes, geometry: Geometry) -> Bytes:
    """Cut or pad with black to the target, about the centre."""
    missing = [max(0, geometry.height - image.shape[0]), max(0, geometry.width - image.shape[1])]
    if any(missing):
        rows, columns = ((side // 2, side - side // 2) for side in missing)
        image = np.pad(image, (rows, columns, (0, 0)))
    top = round((image.shape[0] - geometry.height) / 2)
    left = round((image.shape[1] - geometry.width) / 2)
    return np.ascontiguousarray(image[top : top + geometry.height, left : left + geometry.width])
