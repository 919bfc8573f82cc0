"""A decoded picture beside the values that it was made from, and whether it lost them."""

from typing import Any, Final, NamedTuple

import numpy as np

from meddistill.imaging.intensity import Bytes, Grey

MOST_LEVELS: Final = 3
LEAST_VALUES: Final = 16
_BLOCK: Final = 1 << 20
_SAMPLE: Final = 4096


class Picture(NamedTuple):
    """`pixels` `(H, W, 3)` uint8 as models see them, and the frame's values as the file stores them."""

    pixels: Bytes
    stored: Grey

    @property
    def is_flat(self) -> bool:
        """Whether at most 3 greys or colours are shown while the file stores 16 distinct values or more.

        A window or a rescale that does not fit the values does this, and so does a picture that lies in the
        opacity alone. Cheap: a few thousand pixels settle it for nearly every picture.
        """
        return not _has_more(self.pixels, MOST_LEVELS) and _has_more(self.stored, LEAST_VALUES - 1)


def _has_more(values: Grey, count: int) -> bool:
    """Whether an array has more than `count` distinct values; of uint8 `(H, W, 3)`: distinct colours."""
    pixels = _pixels(values)
    seen: set[Any] = set(_distinct(pixels[:: max(1, len(pixels) // _SAMPLE)]))
    for start in range(0, len(pixels), _BLOCK):
        if len(seen) > count:
            return True
        seen.update(_distinct(pixels[start : start + _BLOCK]))
    return len(seen) > count


def _pixels(values: Grey) -> Grey:
    """One row a value, or a colour."""
    if values.dtype.fields:  # RGB voxels
        return values.ravel()
    return values.reshape(-1, 3) if values.dtype == np.uint8 and values.shape[2:] == (3,) else values.ravel()


def _distinct(block: Grey) -> list[Any]:
    if block.dtype.fields:
        block = np.ascontiguousarray(block).view(np.uint8).reshape(len(block), -1)
    if block.ndim == 2:
        weights = np.array([256**place for place in range(block.shape[1])], dtype=np.uint32)
        block = block.astype(np.uint32) @ weights
    return list(np.unique(block[np.isfinite(block)]).tolist())
