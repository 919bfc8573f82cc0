"""Slides as small pictures made of their own tiles, for reports that may show them."""

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from meddistill.data.samples import Samples
from meddistill.data.table import read_table
from meddistill.evaluation.base.exhibits import AttentionMap
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.imaging import Geometry, decode, rasterize
from meddistill.report.bags import mapped

_LONGEST: Final = 800  # pixels of a picture's longer side
_LARGEST: Final = 64  # pixels of a tile
_GLASS: Final = 255


def slides_from(suite: SuiteConfig, base: Path, results: Results) -> dict[tuple[str, str, int], bytes]:
    """Pictures of the bags with a map of attention, by task, table and the row of the most attended tile."""
    tables: dict[str, Samples] = {}
    found = {}
    for each in mapped(results):
        if each.table and each.places is not None:
            if each.table not in tables:
                tables[each.table] = read_table(suite.tables[each.table], base=base)
            found[each.task, each.table, each.rows[0]] = _picture(tables[each.table], each.places)
    return found


def _picture(samples: Samples, places: AttentionMap) -> bytes:
    """JPEG; every square is its most attended tile, the others are glass."""
    side = max(4, min(_LARGEST, _LONGEST // max(places.columns, places.rows)))
    pixels = np.full((places.rows * side, places.columns * side, 3), _GLASS, dtype=np.uint8)
    at = {row: position for position, row in enumerate(samples.rows)}
    for cell, row in zip(places.cells, places.instances, strict=True):
        y, x = (side * each for each in divmod(cell, places.columns))
        if row in at:
            image = decode(samples.refs[at[row]], samples.options)
            pixels[y : y + side, x : x + side] = rasterize(image, Geometry(side, side, "pad", "bicubic"))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
