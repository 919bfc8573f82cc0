"""Thumbnails and captions of retrieval examples, for reports that may show them."""

import io
from collections import defaultdict

from PIL import Image

from meddistill.data.table import read_table
from meddistill.evaluation.results import Results
from meddistill.imaging import Geometry, decode, rasterise
from meddistill.recipes.session import Session
from meddistill.report.bags import attended
from meddistill.report.data import Examples

_THUMBNAIL = Geometry(112, 112, "pad", "bicubic")


def examples_of(session: Session, results: Results) -> Examples:
    """Pictures and captions of every row that retrieval examples and attention name."""
    suite = session.loaded.suite
    tables = suite.tables if suite is not None else {}
    wanted: dict[str, set[int]] = defaultdict(set)
    for example in results.examples:
        wanted[example.table].update((example.query, *example.answers))
    for table, shown in attended(results.exhibits):
        wanted[table].update(shown)
    pictures: dict[tuple[str, int], bytes] = {}
    captions: dict[tuple[str, int], str] = {}
    for name, rows in wanted.items():
        samples = read_table(tables[name], base=session.loaded.suite_base)
        place = {row: position for position, row in enumerate(samples.rows)}
        for row in sorted(rows & place.keys()):
            position = place[row]
            raster = rasterise(decode(samples.refs[position], samples.options), _THUMBNAIL)
            buffer = io.BytesIO()
            Image.fromarray(raster).save(buffer, format="JPEG", quality=85)
            pictures[name, row] = buffer.getvalue()
            if samples.texts is not None:
                captions[name, row] = samples.texts[position]
    return Examples(pictures=pictures, captions=captions)
