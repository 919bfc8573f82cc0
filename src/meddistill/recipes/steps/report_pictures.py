"""Small pictures of samples, for reports that may show them."""

import io
from typing import Final

from PIL import Image

from meddistill.data.samples import Samples
from meddistill.imaging import Geometry, decode, rasterise

_THUMBNAIL: Final = Geometry(112, 112, "pad", "bicubic")


def thumbnail(samples: Samples, place: int) -> bytes:
    """JPEG of the sample at a position."""
    raster = rasterise(decode(samples.refs[place], samples.options), _THUMBNAIL)
    buffer = io.BytesIO()
    Image.fromarray(raster).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
