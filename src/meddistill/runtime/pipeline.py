"""Decoding in threads ahead of whoever consumes the rasters."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from meddistill.errors import ImageError
from meddistill.imaging import DecodeOptions, Geometry, ImageRef, decode_beside, rasterize
from meddistill.imaging.intensity import Bytes

OnMistake = Callable[[int, ImageError], None]
_MAX_WORKERS = 8
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Rasters:
    """`pixels` `[b, h, w, 3]` uint8 of the images at `rows` of what was asked for.

    Those of `flat` show at most 3 greys although their files store 16 distinct values or more.
    """

    rows: tuple[int, ...]
    pixels: Bytes
    flat: tuple[int, ...] = ()


@dataclass(frozen=True)
class Decoder:
    """How a file becomes a raster, and how many at once; `workers` None is one a core, at most 8."""

    geometry: Geometry
    options: DecodeOptions
    workers: int | None = None

    def raster(self, ref: ImageRef) -> tuple[Bytes, bool]:
        """One image, decoded and brought to the model's geometry, and whether it is flat."""
        picture = decode_beside(ref, self.options)
        return rasterize(picture.pixels, self.geometry), picture.is_flat

    def batches(
        self, refs: Sequence[ImageRef], *, batch_size: int, on_mistake: OnMistake | None = None
    ) -> Iterator[Rasters]:
        """Rasters in the order of `refs`, decoded ahead in threads, at most two batches ahead.

        An image that cannot be read raises its ImageError, or is told to `on_mistake(row, error)` and left
        out.
        """
        with ThreadPoolExecutor(self.workers or min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
            jobs = ((row, pool.submit(self.raster, ref)) for row, ref in enumerate(refs))
            ahead = deque(islice(jobs, batch_size * _BATCHES_AHEAD))
            try:
                yield from _gather(ahead, jobs, batch_size=batch_size, on_mistake=on_mistake)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


_Job = tuple[int, "Future[tuple[Bytes, bool]]"]


def _gather(
    ahead: deque[_Job], jobs: Iterator[_Job], *, batch_size: int, on_mistake: OnMistake | None
) -> Iterator[Rasters]:
    rows: list[int] = []
    pixels: list[Bytes] = []
    flat: list[int] = []
    while ahead:
        row, job = ahead.popleft()
        ahead.extend(islice(jobs, 1))
        try:
            raster, is_flat = job.result()
            pixels.append(raster)
            rows.append(row)
            flat += [row] if is_flat else []
        except ImageError as error:
            if on_mistake is None:
                raise
            on_mistake(row, error)
        if len(rows) == batch_size or (rows and not ahead):
            yield Rasters(tuple(rows), np.stack(pixels), tuple(flat))
            rows, pixels, flat = [], [], []
