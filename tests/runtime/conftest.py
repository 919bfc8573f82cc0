"""A bundle and images for every test of the runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import write_bundle


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """A fresh bundle that a test may damage."""
    folder = tmp_path / "bundle"
    write_bundle(folder)
    return folder


@pytest.fixture
def paint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a PNG of one colour with a little noise."""

    def make(name: str, colour: tuple[int, int, int]) -> Path:
        noise = np.random.default_rng(len(name)).integers(-9, 10, (20, 30, 3))
        pixels = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        return tmp_path / f"{name}.png"

    return make
