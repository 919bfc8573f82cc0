"""The order of bytes in samples that libtiff unpacked.

libtiff gives compressed samples in the machine's own order. Pillow knows that of unsigned ones and takes
signed ones and floats for the file's order.
"""

import sys
from typing import Any, Final

from PIL import ImageFile

_LIBTIFF: Final = "libtiff"
_BY_ORDER: Final = {"little": ("I;16S", "I;32S", "F;32F"), "big": ("I;16BS", "I;32BS", "F;32BF")}
_FOREIGN: Final = {"little": "big", "big": "little"}[sys.byteorder]
_NATIVE: Final = dict(zip(_BY_ORDER[_FOREIGN], _BY_ORDER[sys.byteorder], strict=True))


def in_native_order(image: ImageFile.ImageFile) -> None:
    """Have Pillow take what libtiff unpacks of an opened picture for what it is."""
    image.tile = [
        tile._replace(args=_native(tile.args)) if tile.codec_name == _LIBTIFF else tile for tile in image.tile
    ]


def _native(arguments: Any) -> Any:
    packed, *others = arguments
    return (_NATIVE.get(packed, packed), *others)
