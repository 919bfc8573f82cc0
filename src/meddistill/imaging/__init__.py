"""Images and texts as models see them, without torch."""

from meddistill.imaging.decode import decode, decode_beside, image_key
from meddistill.imaging.file_part import FilePart, ImageFile
from meddistill.imaging.geometry import Geometry, InputSpec
from meddistill.imaging.options import DecodeOptions, ImageRef
from meddistill.imaging.picture import Picture
from meddistill.imaging.rasterize import normalize, rasterize, seen_box
from meddistill.imaging.texts import TEXT_NORMALIZER, normalize_text
from meddistill.imaging.views import ViewPolicy, view

__all__ = [
    "TEXT_NORMALIZER",
    "DecodeOptions",
    "FilePart",
    "Geometry",
    "ImageFile",
    "ImageRef",
    "InputSpec",
    "Picture",
    "ViewPolicy",
    "decode",
    "decode_beside",
    "image_key",
    "normalize",
    "normalize_text",
    "rasterize",
    "seen_box",
    "view",
]
