"""Whole-slide images: where tissue is, and tiles of it at one resolution. Without torch."""

from meddistill.imaging.slides.tiles import Tile, TileOptions, tiles_of

__all__ = ["Tile", "TileOptions", "tiles_of"]
