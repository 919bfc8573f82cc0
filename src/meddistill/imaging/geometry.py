"""What a model wants to see: the raster of an image, then its normalisation."""

from typing import Literal, NamedTuple

from pydantic import Field

from meddistill.strict import Strict

Resize = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]


class Geometry(NamedTuple):
    """The shape of a model's input raster; models with equal geometries share one raster.

    `height` and `width` in pixels. `resize`: `squash` ignores the aspect ratio, `crop` fits the short side
    and cuts the centre, `pad` fits the long side and fills with black. Resampling is antialiased.
    """

    height: int
    width: int
    resize: Resize
    interpolation: Interpolation


class InputSpec(Strict):
    """A model's whole preprocessing contract after decoding: geometry, then (x / 255 - mean) / std."""

    height: int = Field(gt=0, le=4096)
    """Pixels."""
    width: int = Field(gt=0, le=4096)
    """Pixels."""
    resize: Resize = "squash"
    """`squash` ignores the aspect ratio, `crop` fits the short side and cuts the centre, `pad` fits the long
    side and fills with black.
    """
    interpolation: Interpolation = "bicubic"
    """Of the resampling, which is antialiased."""
    mean: tuple[float, float, float]
    """By channel, of values from 0 to 1."""
    std: tuple[float, float, float]
    """By channel, of values from 0 to 1."""

    @property
    def geometry(self) -> Geometry:
        """The part that decides the uint8 raster."""
        return Geometry(self.height, self.width, self.resize, self.interpolation)
