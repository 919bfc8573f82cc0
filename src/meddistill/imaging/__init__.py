"""Images and texts as models see them, without torch."""

from meddistill.imaging.decode import decode, decode_beside, image_key
from meddistill.imaging.file_part import FilePart, ImageFile
from meddistill.imaging.geometry import Geometry, InputSpec
from meddistill.imaging.options import DecodeOptions, ImageRef
from meddistill.imaging.picture import Picture
from meddistill.imaging.rasterise import normalise, rasterise, seen_box
from meddistill.imaging.texts import TEXT_NORMALISER, normalise_text
from meddistill.imaging.views import ViewPolicy, view

__all__ = [
    "TEXT_NORMALISER",
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
    "normalise",
    "normalise_text",
    "rasterise",
    "seen_box",
    "view",
]
