"""Whole-slide images: where tissue is, and tiles of it at one resolution. Without torch."""

from meddistill.imaging.slides.cutting import TABLE, CutSlide, CutTile, cut_slides
from meddistill.imaging.slides.table import known_slides, tiles_table
from meddistill.imaging.slides.tiles import Tile, TileOptions, tiles_of

__all__ = [
    "TABLE",
    "CutSlide",
    "CutTile",
    "Tile",
    "TileOptions",
    "cut_slides",
    "known_slides",
    "tiles_of",
    "tiles_table",
]
