"""Tiles of a slide's tissue at one resolution."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from meddistill.imaging.intensity import Bytes
from meddistill.imaging.refusal import refusal
from meddistill.imaging.slides.slide import Slide
from meddistill.imaging.slides.tissue import Mask, tissue_mask
from meddistill.strict import Strict

_MASK_PIXELS_A_TILE: Final = 8  # along a side, so that shares of tissue come in steps of 1/64
_LONGEST_MASK: Final = 4096
_MOST_ENLARGED: Final = 1.25

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TileOptions(Strict):
    """Which tiles: their size and resolution, and how much tissue they must hold."""

    size: int = Field(default=256, ge=16, le=4096)
    """Side of a tile in pixels."""
    mpp: PositiveFloat = 0.5
    """Micrometres a pixel of a tile; 0.5 is called 20x, 0.25 is 40x."""
    tissue: float = Field(default=0.5, ge=0, le=1)
    """The least share of a tile that is tissue; 0 takes every tile, background too."""
    slide_mpp: PositiveFloat | None = None
    """Micrometres a pixel of the slide itself, for slides that do not say, or say it wrongly."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """RGB `pixels` [size, size, 3] with the upper left corner (x, y) in pixels of level 0."""

    x: int
    y: int
    mpp: float
    tissue: float
    pixels: Bytes


DEFAULT_TILES: Final = TileOptions()


def tiles_of(path: Path, options: TileOptions = DEFAULT_TILES) -> Iterator[Tile]:
    """The tiles of a slide row by row, each read when it is asked for; as `Tiling`.

    Raises
    ------
    ImageError
        For a file that is no slide, one that does not say its micrometres a pixel (give `slide_mpp`), and
        one that is coarser than the tiles that are asked for.
    MissingExtra
        Where OpenSlide is not installed.
    """
    with Slide(path) as slide:
        yield from Tiling(slide, options)


@final
class Tiling:
    """The tiles of an open slide row by row: their number is known at once, each is read when asked for.

    They lie on a grid without overlap from the upper left corner; what remains at the right and lower edges
    is left out. Tissue is what is stained (`tissue_mask`), on a picture of 8 pixels a tile.
    """

    def __init__(self, slide: Slide, options: TileOptions) -> None:
        self._slide, self._options = slide, options
        self._extent = _extent(slide, options)
        columns, rows = (
            int((length + 0.5) // side) for length, side in zip(slide.size, self._extent, strict=True)
        )
        shares = np.zeros((0, 0))
        if columns and rows:
            shares = _shares(slide, self._extent, (columns, rows))
        self._shares = shares
        self._places = np.argwhere(shares >= options.tissue)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Tile]:
        for row, column in self._places:
            corner = (round(column * self._extent[0]), round(row * self._extent[1]))
            side = self._options.size
            yield Tile(
                x=corner[0],
                y=corner[1],
                mpp=self._options.mpp,
                tissue=float(self._shares[row, column]),
                pixels=self._slide.read(corner, self._extent, (side, side)),
            )


def _extent(slide: Slide, options: TileOptions) -> tuple[float, float]:
    """Width and height of a tile in pixels of level 0."""
    own = slide.mpp if options.slide_mpp is None else (options.slide_mpp, options.slide_mpp)
    if own is None:
        raise refusal(
            slide.path,
            must="state its micrometres a pixel",
            got="none, or none that a scanner would write",
            do="State them: `slide_mpp` (`--slide-mpp`), 0.25 for most scans at 40x, 0.5 at 20x.",
        )
    if max(own) > options.mpp * _MOST_ENLARGED:
        raise refusal(
            slide.path,
            must=f"be as fine as its tiles, {options.mpp:g} micrometres a pixel",
            got=f"{max(own):g}",
            do="Choose a larger `mpp`; enlarging would show nothing more.",
        )
    return options.size * options.mpp / own[0], options.size * options.mpp / own[1]


def _shares(slide: Slide, extent: tuple[float, float], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Share of tissue of every tile of the grid (columns, rows), [rows, columns]."""
    factor = max(min(extent) / _MASK_PIXELS_A_TILE, max(slide.size) / _LONGEST_MASK, 1.0)
    mask = tissue_mask(slide.overview(factor))
    across = _edges(grid[0], extent[0], slide.size[0], mask.shape[1])
    down = _edges(grid[1], extent[1], slide.size[1], mask.shape[0])
    return _box_means(mask, down, across)


def _edges(count: int, side: float, length: int, pixels: int) -> NDArray[np.int64]:
    """Where the tiles begin and end on the mask, whole pixels, each tile one at least."""
    edges = np.round(np.arange(count + 1) * side * pixels / length).astype(np.int64)
    return np.minimum(edges, pixels)


def _box_means(mask: Mask, down: NDArray[np.int64], across: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means of the mask over all boxes between neighbouring edges, by sums from the corner."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    corners = sums[np.ix_(down, across)]
    inside = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
    areas = np.outer(np.diff(down), np.diff(across))
    shares: NDArray[np.float64] = inside / np.maximum(areas, 1)
    return shares
