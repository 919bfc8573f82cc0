"""Where tissue is on a small picture of a slide: stained, so more saturated than glass."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.imaging.intensity import Bytes

Mask = NDArray[np.bool_]

# Glass with noise and compression has saturations of up to some 5 % of 255; without a floor Otsu's method
# would cut an empty slide in two.
_LEAST_SATURATION: Final = 13
# Below, saturation is the noise of nearly nothing: black edges of a scan, ink.
_LEAST_BRIGHTNESS: Final = 26


def saturation(picture: Bytes) -> Bytes:
    """Saturation of HSV, 255 x (max - min) / max over the channels, [h, w]; 0 where it is nearly black."""
    highest = picture.max(axis=2).astype(np.int64)
    lowest = picture.min(axis=2).astype(np.int64)
    saturated: Bytes = (255 * (highest - lowest) // np.maximum(highest, 1)).astype(np.uint8)
    saturated[highest < _LEAST_BRIGHTNESS] = 0
    return saturated


def otsu(values: Bytes) -> int:
    """The threshold t that parts values <= t from those above with the largest variance between the parts.

    Otsu, "A threshold selection method from gray-level histograms" (1979): maximises
    n0 n1 (mean0 - mean1)² over t in [0, 254]; of equal ones the lowest. 255 where all values are equal.
    """
    counts = np.bincount(values.reshape(-1), minlength=256).astype(np.float64)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
        between = below * above * distance**2
    if not np.isfinite(between).any():
        return 255
    return int(np.nanargmax(between))


def tissue_mask(picture: Bytes, *, radius: int = 2) -> Mask:
    """Tissue on an RGB picture [h, w, 3]: saturation above Otsu's threshold, small gaps closed."""
    values = saturation(picture)
    return closed(values > max(otsu(values), _LEAST_SATURATION), radius)


def closed(mask: Mask, radius: int) -> Mask:
    """Morphological closing (dilation, then erosion) by a square of 2 `radius` + 1 pixels.

    Beyond the edge nothing is added by dilation and nothing taken by erosion.
    """
    grown = _spread(mask, radius)
    return ~_spread(~grown, radius)


def _spread(mask: Mask, radius: int) -> Mask:
    for axis in (0, 1):
        grown = mask.copy()
        for shift in range(1, min(radius, mask.shape[axis] - 1) + 1):
            moved = np.moveaxis(mask, axis, 0)
            target = np.moveaxis(grown, axis, 0)
            target[shift:] |= moved[:-shift]
            target[:-shift] |= moved[shift:]
        mask = grown
    return mask
