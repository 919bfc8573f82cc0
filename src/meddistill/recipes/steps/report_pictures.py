"""Small pictures of samples, for reports that may show them."""

import io
from typing import Final

from PIL import Image

from meddistill.data.samples import Samples
from meddistill.imaging import Geometry, decode, rasterize

THUMBNAIL: Final = Geometry(112, 112, "pad", "bicubic")
OUTLINED: Final = Geometry(256, 256, "pad", "bicubic")


def picture(samples: Samples, place: int, geometry: Geometry = THUMBNAIL) -> bytes:
    """JPEG of the sample at a position."""
    raster = rasterize(decode(samples.refs[place], samples.options), geometry)
    buffer = io.BytesIO()
    Image.fromarray(raster).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
