"""Overlap and surface metrics against brute force and other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from torchmetrics.functional.segmentation import dice_score, mean_iou

from meddistill.evaluation.tasks.segmentation.metrics import mask_metrics, metric_names


def _edges(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing)


def _brute_force(
    truth: np.ndarray, given: np.ndarray, tolerance: float, spacing: tuple[float, float]
) -> tuple[float, float]:
    first, second = _edges(truth, spacing), _edges(given, spacing)
    apart = np.hypot(*np.moveaxis(first[:, None] - second[None], 2, 0))
    there, back = apart.min(axis=1), apart.min(axis=0)
    hd95 = max(np.quantile(there, 0.95), np.quantile(back, 0.95))
    near = ((there <= tolerance).sum() + (back <= tolerance).sum()) / (len(there) + len(back))
    return float(hd95), float(near)


def _blob(random: np.random.Generator, shape: tuple[int, int] = (24, 31)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, dtype=bool)
    for _ in range(random.integers(1, 4)):
        row, column = random.uniform(-2, shape[0] + 2), random.uniform(-2, shape[1] + 2)
        mask |= np.hypot(rows - row, columns - column) < random.uniform(2, 9)
    return mask


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0), (0.5, 2.0), (3.0, 0.7)])
def test_against_brute_force_and_torchmetrics(spacing: tuple[float, float] | None) -> None:
    random = np.random.default_rng(3)
    tried = 0
    while tried < 12:
        truth, given = _blob(random), _blob(random)
        if not truth.any() or not given.any():
            continue
        tried += 1
        dice, iou, hd95, near = mask_metrics(truth, given, tolerance=2.0, spacing=spacing)
        pair = [torch.from_numpy(mask[None, None].astype(np.int64)) for mask in (given, truth)]
        assert dice == pytest.approx(float(dice_score(*pair, num_classes=1, input_format="one-hot")))
        assert iou == pytest.approx(float(mean_iou(*pair, num_classes=1, input_format="one-hot")))
        assert dice == pytest.approx(2 * iou / (1 + iou))
        expected = _brute_force(truth, given, 2.0, spacing or (1.0, 1.0))
        assert (hd95, near) == pytest.approx(expected, abs=1e-5)


def test_by_eye() -> None:
    """Two bars of 1 x 4 pixels, three rows apart: every edge pixel is 3 rows away."""
    truth, given = np.zeros((9, 8), dtype=bool), np.zeros((9, 8), dtype=bool)
    truth[2, 2:6] = given[5, 2:6] = True
    assert mask_metrics(truth, given, tolerance=2, spacing=None) == (0, 0, 3, 0)
    assert mask_metrics(truth, given, tolerance=3, spacing=None) == (0, 0, 3, 1)
    assert mask_metrics(truth, given, tolerance=2, spacing=(0.5, 10)) == (0, 0, 1.5, 1)
    given[:] = False
    given[2, 4:8] = True
    dice, iou, hd95, near = mask_metrics(truth, given, tolerance=1, spacing=(1, 2))
    assert (dice, iou) == (0.5, pytest.approx(1 / 3))
    assert (hd95, near) == (pytest.approx(np.quantile([4, 2, 0, 0], 0.95)), 0.5)
    assert mask_metrics(truth, truth, tolerance=1e-9, spacing=None) == (1, 1, 0, 1)


def test_a_mask_that_fills_the_image_has_its_edge_at_the_border() -> None:
    full = np.ones((6, 5), dtype=bool)
    inner = np.zeros_like(full)
    inner[1:-1, 1:-1] = True
    assert mask_metrics(full, full, tolerance=1, spacing=None) == (1, 1, 0, 1)
    _, _, hd95, near = mask_metrics(full, inner, tolerance=1, spacing=None)
    assert (hd95, near) == pytest.approx(_brute_force(full, inner, 1, (1, 1)))


def test_empty_masks() -> None:
    empty, point = np.zeros((30, 40), dtype=bool), np.zeros((30, 40), dtype=bool)
    point[3, 4] = True
    assert mask_metrics(empty, empty, tolerance=2, spacing=None) == (1, 1, 0, 1)
    assert mask_metrics(point, empty, tolerance=2, spacing=None) == (0, 0, 50, 0)
    assert mask_metrics(empty, point, tolerance=2, spacing=(2, 1)) == (0, 0, math.hypot(60, 40), 0)


def test_distances_never_exceed_what_an_empty_answer_costs() -> None:
    corner, other = np.zeros((7, 9), dtype=bool), np.zeros((7, 9), dtype=bool)
    corner[0, 0] = other[-1, -1] = True
    hd95 = mask_metrics(corner, other, tolerance=2, spacing=None)[2]
    assert hd95 == pytest.approx(10)
    assert hd95 < math.hypot(7, 9)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="one size"):
        mask_metrics(np.zeros((2, 3), dtype=bool), np.zeros((3, 2), dtype=bool), tolerance=1, spacing=None)


def test_names_say_unit_and_tolerance() -> None:
    assert metric_names(2.0, "px") == ("dice", "iou", "hd95_px", "nsd_2px")
    assert metric_names(1.5, "mm") == ("dice", "iou", "hd95_mm", "nsd_1.5mm")
