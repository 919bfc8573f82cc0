"""Pictures and words of the few rows that a report shows, from the tables that the evaluation opened."""

import io
from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from meddistill.data.samples import Samples
from meddistill.evaluation.base.exhibits import AttentionMap
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.vqa.config import VqaConfig
from meddistill.imaging import Geometry, decode, rasterize
from meddistill.report.data import THUMBNAIL

_LONGEST: Final = 800  # pixels of a slide's longer side
_LARGEST: Final = 64  # pixels of a tile
_GLASS: Final = 255

Bytes = NDArray[np.uint8]


class TableExamples:
    """`Examples` of a suite. What the report asks for is read then; nothing is kept, nothing written."""

    def __init__(self, suite: SuiteConfig, tables: SuiteTables) -> None:
        self._tables = tables
        self._vqa_tasks = {task.name: task for task in suite.tasks if isinstance(task, VqaConfig)}

    def picture(self, table: str, row: int, *, side: int = THUMBNAIL) -> bytes:
        """JPEG of the row's image, padded to a square."""
        return _jpeg(_raster(self._rows(table, [row]), 0, side))

    def slide(self, table: str, places: AttentionMap) -> bytes:
        """JPEG of a bag; every square is its most attended tile, the others are glass."""
        tiles = self._rows(table, places.instances)
        position = {row: at for at, row in enumerate(tiles.rows)}
        side = max(4, min(_LARGEST, _LONGEST // max(places.columns, places.rows)))
        pixels = np.full((places.rows * side, places.columns * side, 3), _GLASS, dtype=np.uint8)
        for cell, row in zip(places.cells, places.instances, strict=True):
            y, x = (side * each for each in divmod(cell, places.columns))
            pixels[y : y + side, x : x + side] = _raster(tiles, position[row], side)
        return _jpeg(pixels)

    def caption(self, table: str, row: int) -> str:
        """The row's caption; "" in a table without any."""
        texts = self._rows(table, [row]).texts
        return texts[0] if texts else ""

    def question(self, task: str, table: str, row: int) -> str:
        """The row's question, in the column that the task names."""
        return self._rows(table, [row]).columns[self._vqa_tasks[task].question][0]

    def answer(self, task: str, table: str, row: int) -> str:
        """The row's answer, in the column that the task names."""
        return self._rows(table, [row]).columns[self._vqa_tasks[task].answer][0]

    def _rows(self, table: str, numbers: Collection[int]) -> Samples:
        return self._tables.rows(table, numbers).samples


def _raster(samples: Samples, position: int, side: int) -> Bytes:
    image = decode(samples.refs[position], samples.options)
    return rasterize(image, Geometry(side, side, "pad", "bicubic"))


def _jpeg(raster: Bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(raster).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
