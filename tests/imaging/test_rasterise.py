"""Rasters against torchvision's and open_clip's own transforms of PIL images."""

import numpy as np
import pytest
from PIL import Image

from meddistill.imaging import Geometry, InputSpec, normalize, rasterize

SIZES = [(224, 224), (60, 91), (91, 60), (300, 41), (64, 65), (7, 5), (1, 9), (225, 223)]
TARGETS = [(64, 64), (63, 63), (48, 64), (65, 33)]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def _spec(geometry: Geometry) -> InputSpec:
    return InputSpec(**geometry._asdict(), mean=(0.48, 0.45, 0.40), std=(0.26, 0.25, 0.27))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("target", TARGETS)
def test_equals_open_clip_bit_for_bit(target: tuple[int, int], resize: str, interpolation: str) -> None:
    transform = pytest.importorskip("open_clip.transform")
    geometry = Geometry(*target, resize, interpolation)
    if resize == "crop" and target[0] != target[1] and interpolation == "bilinear":
        pytest.skip("open_clip is always bicubic here")
    spec = _spec(geometry)
    mode = {"squash": "squash", "crop": "shortest", "pad": "longest"}[resize]
    theirs = transform.image_transform(
        target, is_train=False, mean=spec.mean, std=spec.std, resize_mode=mode, interpolation=interpolation
    )
    for size in SIZES:
        picture = _picture(size)
        expected = theirs(Image.fromarray(picture)).numpy()
        raster = rasterize(picture, geometry)
        assert raster.dtype == np.uint8
        assert raster.shape == (*target, 3)
        assert np.array_equal(normalize(raster[None], spec)[0], expected), size


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_equals_torchvision_bit_for_bit(interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    for size in SIZES:
        picture = _picture(size)
        image = Image.fromarray(picture)
        squash = transforms.Resize((40, 52), mode)(image)
        assert np.array_equal(rasterize(picture, Geometry(40, 52, "squash", interpolation)), squash)
        crop = transforms.Compose([transforms.Resize(48, mode), transforms.CenterCrop(48)])(image)
        assert np.array_equal(rasterize(picture, Geometry(48, 48, "crop", interpolation)), crop)


def test_downscaling_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    raster = rasterize(stripes, Geometry(32, 32, "squash", "bilinear")).astype(int)
    assert np.abs(raster[:, 1:-1] - 127.5).max() < 3


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = _picture((64, 64))
    for resize in ("squash", "crop", "pad"):
        assert np.array_equal(rasterize(picture, Geometry(64, 64, resize, "bicubic")), picture)


def test_pad_keeps_the_aspect_ratio_and_fills_with_black() -> None:
    raster = rasterize(np.full((20, 40, 3), 200, np.uint8), Geometry(40, 40, "pad", "bilinear"))
    assert np.all(raster[10:30] == 200)
    assert not raster[:10].any()
    assert not raster[30:].any()


def test_rasters_do_not_share_memory_with_the_picture() -> None:
    picture = _picture((64, 64))
    rasterize(picture, Geometry(64, 64, "crop", "bicubic"))
    strided = picture[::-1, ::-1]  # views and flips hand over arrays that are not contiguous
    assert np.array_equal(rasterize(strided, Geometry(64, 64, "crop", "bicubic")), strided)


def test_normalize_shape_and_formula() -> None:
    spec = _spec(Geometry(4, 6, "squash", "bicubic"))
    rasters = np.stack([_picture((4, 6)), _picture((4, 6)) // 2])
    out = normalize(rasters, spec)
    assert out.shape == (2, 3, 4, 6)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert out[1, 2, 3, 5] == pytest.approx((rasters[1, 3, 5, 2] / 255 - 0.40) / 0.27, rel=1e-6)
