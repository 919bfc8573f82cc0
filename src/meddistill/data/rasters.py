"""Images of samples as rasters: decoded once, kept in memory up to a number of bytes."""

import threading
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from meddistill.data.samples import Samples
from meddistill.errors import ImageError
from meddistill.imaging import Geometry, ViewPolicy, decode, rasterize, view

Pixels = NDArray[np.uint8]


class PixelCache:
    """Pixels by key until `limit` bytes are held; what comes later is not kept.

    Nothing is ever thrown out: an epoch visits every image once in a new order, so the one used longest ago
    is no likelier than another to be unneeded, and eviction would only cost. Grey images, where all three
    channels are equal, are held as one. Safe to use from several threads; pickled, it is empty again.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: dict[Hashable, Pixels] = {}
        self.size = 0

    def __reduce__(self) -> tuple[type["PixelCache"], tuple[int]]:
        return type(self), (self._limit,)

    def get(self, key: Hashable) -> Pixels | None:
        """The `(H, W, 3)` pixels put under `key`, if they were kept."""
        held = self._held.get(key)
        if held is None or held.ndim == 3:
            return held
        return np.repeat(held[:, :, None], 3, axis=2)

    def put(self, key: Hashable, pixels: Pixels) -> None:
        """Keep a copy of `pixels` if there is room."""
        if self.size + pixels.nbytes // 3 > self._limit:
            return
        grey = pixels[:, :, 0]
        is_grey = np.array_equal(grey, pixels[:, :, 1]) and np.array_equal(grey, pixels[:, :, 2])
        kept = grey.copy() if is_grey else pixels.copy()
        with self._lock:
            if key not in self._held and self.size + kept.nbytes <= self._limit:
                self._held[key] = kept
                self.size += kept.nbytes


class ImageRasters:
    """Rasters of images at any view and geometry, from one decode of each.

    `keys` name the images (`image_keys`); views are drawn by them, so the same picture in two files has the
    same views. With `policy` None only view 0 exists. What is asked for in every epoch is kept: rasters of
    view 0, and, if `keep_decoded`, the decoded images that other views are cut from.
    """

    def __init__(
        self,
        samples: Samples,
        keys: Sequence[str],
        *,
        policy: ViewPolicy | None,
        keep_decoded: bool,
        cache_bytes: int,
    ) -> None:
        self._samples = samples
        self._keys = keys
        self._policy = policy
        self._keep_decoded = keep_decoded
        self._cache = PixelCache(cache_bytes)

    def of(self, row: int, wanted: Sequence[tuple[int, Geometry]]) -> list[Pixels]:
        """The raster of sample `row` for each `(view, geometry)`; raises ImageError with the table's row."""
        kept = [self._cached_raster(row, index, geometry) for index, geometry in wanted]
        if all(raster is not None for raster in kept):
            return [raster for raster in kept if raster is not None]
        image = self._decoded(row)
        views = {0: image}
        rasters = []
        for (index, geometry), cached in zip(wanted, kept, strict=True):
            if index not in views:
                views[index] = self._view(row, image, index)
            raster = rasterize(views[index], geometry) if cached is None else cached
            if cached is None and index == 0:
                self._cache.put((self._keys[row], geometry), raster)
            rasters.append(raster)
        return rasters

    def _cached_raster(self, row: int, index: int, geometry: Geometry) -> Pixels | None:
        return self._cache.get((self._keys[row], geometry)) if index == 0 else None

    def _decoded(self, row: int) -> Pixels:
        held = self._cache.get(self._keys[row])
        if held is not None:
            return held
        try:
            image = decode(self._samples.refs[row], self._samples.options)
        except ImageError as error:
            msg = f"row {self._samples.rows[row]}: {error}"
            raise ImageError(msg) from None
        if self._keep_decoded:
            self._cache.put(self._keys[row], image)
        return image

    def _view(self, row: int, image: Pixels, index: int) -> Pixels:
        if self._policy is None:
            msg = f"a view policy is needed for view {index}."
            raise ValueError(msg)
        return view(image, image_id=self._keys[row], index=index, policy=self._policy)
