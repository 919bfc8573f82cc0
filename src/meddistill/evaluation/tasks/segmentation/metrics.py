"""How well an outline fits: overlap, and distances between surfaces.

Of a true mask T and a given one G, both (rows, columns):

- `dice`: 2 |T ∩ G| / (|T| + |G|).
- `iou`: |T ∩ G| / |T ∪ G|.
- `hd95_<unit>`: the larger of the two 95th percentiles of the distances from the edge pixels of one mask to
  the nearest edge pixel of the other.
- `nsd_<tolerance><unit>`: normalised surface Dice (Nikolov et al., arXiv 1809.04430): the share of the edge
  pixels of both masks that lie within the tolerance of the other's edge. Pixels are counted, not lengths of
  contour, so that on slanted edges it may differ by some thousandths from tools that weigh them.

`unit` is `mm` where the spacing is known and `px` where not. Surfaces are MONAI's: edge pixels are those of
the mask that erosion by a cross takes off. Tools differ in such details by more than models do (arXiv
2410.02630); compare numbers of one tool only.

A surface needs two masks that are not empty. Both empty: Dice, IoU and surface Dice are 1, the distance 0.
One empty: 0, 0, 0, and the diagonal of the image, which no distance in it exceeds.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from meddistill.arrays import Flags
from meddistill.evaluation.tasks.segmentation.config import Unit

MAIN: Final = "dice"
_PERCENTILE: Final = 95

Spacing = tuple[float, float]


def metric_names(tolerance: float, unit: Unit) -> tuple[str, ...]:
    """Names of what `mask_metrics` gives, in its order."""
    return MAIN, "iou", f"hd95_{unit}", f"nsd_{tolerance:g}{unit}"


def mask_metrics(
    truth: Flags, given: Flags, *, tolerance: float, spacing: Spacing | None
) -> tuple[float, ...]:
    """Dice, IoU, 95th percentile of surface distances, surface Dice; see the module.

    `spacing` is in millimetres between rows and between columns; None counts pixels. Raises ValueError for
    masks of different sizes.
    """
    if truth.shape != given.shape:
        msg = f"masks must have one size; got {truth.shape} and {given.shape}."
        raise ValueError(msg)
    marked = int(truth.sum()) + int(given.sum())
    if not marked:
        return 1.0, 1.0, 0.0, 1.0
    if not truth.any() or not given.any():
        return 0.0, 0.0, diagonal(truth.shape, spacing), 0.0
    both = int((truth & given).sum())
    distance, near = _surfaces(truth, given, tolerance, spacing or (1.0, 1.0))
    return 2 * both / marked, both / (marked - both), distance, near


def diagonal(shape: Sequence[int], spacing: Spacing | None) -> float:
    """Length of the diagonal of an image, rows x columns."""
    rows, columns = spacing or (1.0, 1.0)
    return math.hypot(shape[0] * rows, shape[1] * columns)


def surface_tool() -> str:
    """What measures surfaces, with its version."""
    from importlib.metadata import version

    return f"monai {version('monai')}"


def _surfaces(truth: Flags, given: Flags, tolerance: float, spacing: Spacing) -> tuple[float, float]:
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance  # importing costs seconds
    from monai.metrics.surface_dice import compute_surface_dice

    left, right = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (given, truth))
    shared: Mapping[str, Any] = {"include_background": True, "spacing": [float(side) for side in spacing]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.5 and 1.6 of a call inside themselves
        distance = compute_hausdorff_distance(left, right, percentile=_PERCENTILE, **shared)
        near = compute_surface_dice(left, right, class_thresholds=[tolerance], **shared)
    return float(distance), float(near)
