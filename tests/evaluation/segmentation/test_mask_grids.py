"""From pixels to cells and back."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from meddistill.evaluation.models.protocols import Tokens
from meddistill.evaluation.tasks.segmentation.grids import at_pixels, coverage
from meddistill.imaging import Geometry

WHOLE = (0.0, 0.0, 24.0, 36.0)


def test_cells_that_divide_the_image_hold_means_of_their_pixels() -> None:
    mask = np.random.default_rng(0).random((24, 36)) < 0.4
    shares, inside = coverage(mask, WHOLE, (6, 4))
    np.testing.assert_allclose(shares, mask.reshape(6, 4, 4, 9).mean(axis=(1, 3)), atol=1e-6)
    np.testing.assert_allclose(inside, 1, atol=1e-6)


def test_cells_of_any_size_keep_the_marked_area() -> None:
    mask = np.random.default_rng(1).random((24, 36)) < 0.4
    for cells in ((5, 7), (50, 31), (1, 1)):
        shares, inside = coverage(mask, WHOLE, cells)
        area = 24 * 36 / (cells[0] * cells[1])
        assert (shares * inside).sum() * area == pytest.approx(mask.sum(), rel=1e-5)


def test_cells_outside_the_image_count_nothing() -> None:
    shares, inside = coverage(np.ones((10, 20), dtype=bool), (-5.0, 0.0, 15.0, 20.0), (4, 4))
    np.testing.assert_allclose(inside[:, 0], [0, 1, 1, 0])
    np.testing.assert_allclose(shares[:, 0], [0, 1, 1, 0])
    half = coverage(np.ones((10, 20), dtype=bool), (-2.5, 0.0, 7.5, 20.0), (2, 2))
    np.testing.assert_allclose(half[1][:, 0], [0.5, 1])
    np.testing.assert_allclose(half[0], 1)


@pytest.mark.parametrize("cells", [(6, 6), (1, 5), (3, 40)])
def test_upsampling_is_torch_s_bilinear(cells: tuple[int, int]) -> None:
    values = np.random.default_rng(2).normal(size=cells).astype(np.float32)
    found, seen = at_pixels(values, WHOLE, (24, 36))
    oracle = functional.interpolate(torch.from_numpy(values)[None, None], size=(24, 36), mode="bilinear")
    if cells[1] <= 36:  # beyond, torch skips cells and so do we, at other places of rounding
        np.testing.assert_allclose(found, oracle[0, 0].numpy(), atol=1e-5)
    assert seen.all()


def test_a_box_inside_the_image_leaves_the_rest_unseen() -> None:
    values = np.array([[1.0, 2.0]])
    found, seen = at_pixels(values, (2.0, 1.0, 4.0, 5.0), (6, 6))
    assert seen.sum() == 2 * 4
    assert seen[2:4, 1:5].all()
    np.testing.assert_allclose(found[2, 1:5], [1, 1.25, 1.75, 2])


def test_tokens_know_what_they_cover() -> None:
    values, mask = np.zeros((1, 4, 1), dtype=np.float16), np.ones((1, 4), dtype=bool)

    def box(**more: object) -> tuple[float, ...]:
        return Tokens(values=values, mask=mask, grid=(2, 2), **more).box(50, 100)

    assert box() == (0, 0, 50, 100)
    assert box(geometry=Geometry(32, 32, "squash", "bicubic")) == (0, 0, 50, 100)
    assert box(geometry=Geometry(25, 25, "crop", "bicubic")) == (0, 24, 50, 74)
    assert box(geometry=Geometry(50, 50, "pad", "bicubic")) == (-24, 0, 76, 100)
    cut = box(geometry=Geometry(32, 32, "squash", "bicubic"), cut=(16, 24))
    assert cut == (12.5, 12.5, 37.5, 87.5)


def test_there_and_back() -> None:
    """A disc that a padding raster shows is found again where it was."""
    rows, columns = np.mgrid[:40, :60]
    mask = np.hypot(rows - 25, columns - 20) < 8
    box = Tokens(
        values=np.zeros((1, 1, 1), dtype=np.float16),
        mask=np.ones((1, 1), dtype=bool),
        geometry=Geometry(32, 32, "pad", "bilinear"),
    ).box(40, 60)
    shares, _ = coverage(mask, box, (64, 64))
    found = at_pixels(shares, box, (40, 60))[0] > 0.5
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.97
