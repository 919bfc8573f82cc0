"""Between the pixels of a mask and the cells of a grid that covers a box of the image.

A box is (top, left, bottom, right) in pixels of the image, edges and not centres; it may be a part of the
image (a raster that cuts) or reach outside (one that pads). Both ways are linear in rows and in columns, so
each is two small matrices and no loop.
"""

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags, Floats, Floats32

Box = tuple[float, float, float, float]
Shape = tuple[int, int]


def coverage(mask: Flags, box: Box, cells: Shape) -> tuple[Floats32, Floats32]:
    """The share of every cell that is marked, of what of it lies in the image; and that part of the cell.

    Both [rows, columns] of `cells`, 0 to 1; a cell outside the image has 0 and 0.
    """
    rows = _overlaps(box[0], box[2], cells[0], mask.shape[0])
    columns = _overlaps(box[1], box[3], cells[1], mask.shape[1])
    marked = rows @ mask.astype(np.float64) @ columns.T
    area = np.outer(rows.sum(axis=1), columns.sum(axis=1))
    cell = (box[2] - box[0]) / cells[0] * (box[3] - box[1]) / cells[1]
    share = np.divide(marked, area, out=np.zeros_like(marked), where=area > 0)
    return share.astype(np.float32), (area / cell).astype(np.float32)


def at_pixels(values: NDArray[np.floating], box: Box, shape: Shape) -> tuple[Floats32, Flags]:
    """Values [rows, columns] of a grid at the pixels of an image, and which of them the box holds.

    Bilinear between the centres of cells; beyond the outermost centres their values go on.
    """
    rows, seen_rows = _weights(box[0], box[2], values.shape[0], shape[0])
    columns, seen_columns = _weights(box[1], box[3], values.shape[1], shape[1])
    resampled = rows @ values.astype(np.float32) @ columns.T
    return resampled, seen_rows[:, None] & seen_columns[None]


def _overlaps(start: float, end: float, cells: int, pixels: int) -> Floats:
    """[cells, pixels]: the length that cell i and pixel j have in common."""
    edges = np.linspace(start, end, cells + 1)
    left = np.maximum(edges[:-1, None], np.arange(pixels)[None])
    right = np.minimum(edges[1:, None], np.arange(1, pixels + 1)[None])
    return np.maximum(0.0, right - left)


def _weights(start: float, end: float, cells: int, pixels: int) -> tuple[Floats32, Flags]:
    """[pixels, cells]: what each cell counts at each pixel's centre; and whether the centre lies inside."""
    centres = np.arange(pixels) + 0.5
    place = np.clip((centres - start) / (end - start) * cells - 0.5, 0, cells - 1)
    lower = np.minimum(place.astype(np.int64), max(0, cells - 2))
    above = place - lower
    weights = np.zeros((pixels, cells), dtype=np.float32)
    every = np.arange(pixels)
    weights[every, lower] = 1 - above
    weights[every, np.minimum(lower + 1, cells - 1)] += above.astype(np.float32)
    return weights, (centres >= start) & (centres <= end)
