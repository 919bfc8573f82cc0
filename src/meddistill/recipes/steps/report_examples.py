"""Pictures and captions of examples, for reports that may show them."""

import io
from collections import defaultdict
from pathlib import Path

from PIL import Image

from meddistill.data.table import read_table
from meddistill.evaluation.config import SuiteConfig
from meddistill.evaluation.exhibits import MaskExample
from meddistill.evaluation.results import Results
from meddistill.imaging import Geometry, decode, rasterise
from meddistill.recipes.session import Session
from meddistill.report.data import Examples

_THUMBNAIL = Geometry(112, 112, "pad", "bicubic")
_OUTLINED = Geometry(256, 256, "pad", "bicubic")


def examples_of(session: Session, results: Results) -> Examples:
    """Pictures and captions of every row that the results' examples name."""
    suite = session.loaded.suite
    return Examples() if suite is None else examples_from(suite, session.loaded.suite_base, results)


def examples_from(suite: SuiteConfig, base: Path, results: Results) -> Examples:
    """Pictures and captions of every row that the results' retrieval examples name."""
    tables = suite.tables
    wanted: dict[str, set[int]] = defaultdict(set)
    for example in results.examples:
        wanted[example.table].update((example.query, *example.answers))
    outlined = {
        (each.table, each.row) for each in results.exhibits if isinstance(each, MaskExample) and each.given
    }
    for name, row in outlined:
        wanted[name].add(row)
    pictures: dict[tuple[str, int], bytes] = {}
    captions: dict[tuple[str, int], str] = {}
    for name, rows in wanted.items():
        samples = read_table(tables[name], base=base)
        place = {row: position for position, row in enumerate(samples.rows)}
        for row in sorted(rows & place.keys()):
            position = place[row]
            geometry = _OUTLINED if (name, row) in outlined else _THUMBNAIL
            raster = rasterise(decode(samples.refs[position], samples.options), geometry)
            buffer = io.BytesIO()
            Image.fromarray(raster).save(buffer, format="JPEG", quality=85)
            pictures[name, row] = buffer.getvalue()
            if samples.texts is not None:
                captions[name, row] = samples.texts[position]
    return Examples(pictures=pictures, captions=captions)
