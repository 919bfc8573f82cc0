"""A whole-slide image as OpenSlide opens it: its size, its resolution, and any rectangle at any size."""

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from PIL import Image

from meddistill.errors import ImageError, MissingExtra, one_line
from meddistill.imaging.damage import TIFF_STARTS, damaged, picture_damage
from meddistill.imaging.intensity import Bytes
from meddistill.imaging.refusal import refusal

# Scanners record 0.1 to 1 µm a pixel. A TIFF that was saved for print says 72 dots an inch, 353 µm.
_SENSIBLE_MPP: Final = (0.05, 20.0)
_BLOCK: Final = 1024
_WHITE: Final = (255, 255, 255, 255)


class Slide:
    """An open slide; `size` is (width, height) of level 0 in pixels. To be used in a `with` statement.

    Raises ImageError for a file that is missing, or no slide. Raises MissingExtra without OpenSlide.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slide = _opened(path)
        self.size: tuple[int, int] = self._slide.dimensions

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slide.close()

    @property
    def mpp(self) -> tuple[float, float] | None:
        """Micrometres a pixel of level 0 along x and y; None where the file does not say, or not sensibly."""
        try:
            x, y = (float(self._slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy")
        except (KeyError, ValueError):
            return None
        low, high = _SENSIBLE_MPP
        return (x, y) if low <= x <= high and low <= y <= high else None

    def overview(self, factor: float) -> Bytes:
        """The whole slide, smaller by `factor`, RGB [h, w, 3]; read in blocks, for a level may be huge."""
        width, height = (max(1, round(length / factor)) for length in self.size)
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        step = max(1, int(4 * _BLOCK / max(factor, 4.0)))
        for top in range(0, height, step):
            for left in range(0, width, step):
                across, down = min(step, width - left), min(step, height - top)
                scale = (self.size[0] / width, self.size[1] / height)
                corner = (round(left * scale[0]), round(top * scale[1]))
                extent = (across * scale[0], down * scale[1])
                picture[top : top + down, left : left + across] = self.read(corner, extent, (across, down))
        return picture

    def read(self, corner: tuple[int, int], extent: tuple[float, float], size: tuple[int, int]) -> Bytes:
        """The rectangle of `extent` (pixels of level 0) at `corner` (x, y), as RGB of `size` (w, h).

        Read from the coarsest level that is at least as fine as asked, then made smaller with a filter; what
        was not scanned is white.
        """
        factor = min(extent[0] / size[0], extent[1] / size[1])
        # Downsamples are quotients of whole sizes, such as 4.0003: a hair more finds the level that is meant.
        level = self._slide.get_best_level_for_downsample(factor * 1.005)
        downsample = self._slide.level_downsamples[level]
        pixels = tuple(max(1, round(length / downsample)) for length in extent)
        import openslide  # an extra, which is there once a slide is open

        try:
            region = self._slide.read_region(corner, level, pixels)
        except openslide.OpenSlideError as error:
            raise _unread(self.path, one_line(error)) from error
        ground = Image.new("RGBA", region.size, _WHITE)
        ground.alpha_composite(region)
        picture = ground.convert("RGB")
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        found: Bytes = np.asarray(picture)
        return found


def _opened(path: Path) -> Any:
    try:
        import openslide
    except ImportError:
        library, extra = "openslide-python", "wsi"
        raise MissingExtra(library, extra) from None
    if not path.exists():
        raise refusal(path, must="exist", got="no such file", do="Mend the path.")
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise _unread(path, "another kind") from error
    except openslide.OpenSlideError as error:
        raise _unread(path, one_line(error)) from error


def _unread(path: Path, words: str) -> ImageError:
    """What the file shows of itself, else OpenSlide's own `words`; it has none for a file of another kind."""
    with path.open("rb") as file:
        shown = picture_damage(file) if file.read(4).startswith(TIFF_STARTS) else None
    if shown is not None:
        return damaged(path, "TIFF", shown=shown)
    return refusal(
        path,
        must="be a slide that OpenSlide reads (.svs, .ndpi, .mrxs, tiled .tif, DICOM and others)",
        got=words,
        do="Convert it to a tiled TIFF.",
    )
