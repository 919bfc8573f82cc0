"""Image keys: what changes them, what does not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meddistill.imaging import DecodeOptions, ImageRef, image_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_key_is_of_the_bytes_and_not_of_the_name(path: Path) -> None:
    before = image_key(ImageRef(path))
    assert len(before) == 64
    assert image_key(ImageRef(path.rename(path.with_name("b.png")))) == before


def test_key_changes_with_bytes_selectors_and_options_that_move_pixels(path: Path) -> None:
    keys = [
        image_key(ImageRef(path)),
        image_key(ImageRef(path, frame=0)),
        image_key(ImageRef(path, axis=0)),
        image_key(ImageRef(path, slice=0)),
        image_key(ImageRef(path), DecodeOptions(window=(40, 400))),
        image_key(ImageRef(path), DecodeOptions(percentiles=(1, 99))),
    ]
    path.write_bytes(path.read_bytes() + b"\0")
    keys.append(image_key(ImageRef(path)))
    assert len(set(keys)) == len(keys)


def test_key_does_not_change_with_limits(path: Path) -> None:
    assert image_key(ImageRef(path), DecodeOptions(max_pixels=5)) == image_key(ImageRef(path))
