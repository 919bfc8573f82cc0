"""Samples as batches of uint8 rasters and token rows."""

import copy
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from meddistill.data.keys import group_ids, image_keys, text_keys
from meddistill.data.rasters import ImageRasters
from meddistill.data.samples import Samples
from meddistill.data.threads import Threads
from meddistill.data.view_rule import ViewRule
from meddistill.imaging import Geometry
from meddistill.records import Batch

CACHE_BYTES = 2 * 2**30


class SampleDataset:
    """Batches of samples for training a student.

    `student` is the geometry of the student's rasters, None for batches without pixels, for whoever reads
    stored outputs alone; `teacher_geometries` those of teachers that run online. `tokens`
    `[len(samples), context]` are the student's (`token_table`); None for batches without. `keys` are the
    samples' `image_keys` if they are known already. Decoded images are kept in memory up to `cache_bytes`.
    Pickled to another process, it starts there with an empty cache.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        student: Geometry | None,
        tokens: Int[Tensor, "samples context"] | None = None,
        views: ViewRule | None = None,
        teacher_geometries: frozenset[Geometry] = frozenset(),
        keys: Sequence[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.samples = samples
        self.keys = tuple(image_keys(samples) if keys is None else keys)
        self.views = views or ViewRule()
        self.tokens = torch.zeros(len(samples), 0, dtype=torch.int32) if tokens is None else tokens
        if len(self.keys) != len(samples) or len(self.tokens) != len(samples):
            got = f"{len(self.keys)} and {len(self.tokens)}"
            msg = f"`keys` and `tokens` must have {len(samples)} rows; got {got}."
            raise ValueError(msg)
        self._groups = torch.tensor(samples.groups, dtype=torch.int64) if samples.groups else None
        self._student = student
        self._teachers = tuple(sorted(teacher_geometries))
        self._image_groups = torch.from_numpy(group_ids(self.keys))
        self._text_groups = torch.from_numpy(_text_groups(samples))
        self._rasters = self._empty_rasters(cache_bytes)
        self._cache_bytes = cache_bytes
        self._threads = Threads()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def fingerprint(self) -> str:
        """Changes with the samples, their images' content, the tokens, the views and the geometries."""
        digest = hashlib.sha256(f"{self.samples.table_hash}|{self.views}|{self._student}".encode())
        digest.update(f"{self._teachers}|{tuple(self.tokens.shape)}".encode())
        digest.update("".join(self.keys).encode())
        digest.update(np.ascontiguousarray(self.tokens.numpy()).tobytes())
        return digest.hexdigest()

    def for_workers(self, workers: int) -> "SampleDataset":
        """The same dataset for each of several processes: its share of the cache, and one thread."""
        share = copy.copy(self)
        share._rasters = self._empty_rasters(self._cache_bytes // workers)
        share._threads = Threads(1)
        return share

    def _empty_rasters(self, cache_bytes: int) -> ImageRasters:
        return ImageRasters(
            self.samples,
            self.keys,
            policy=self.views.policy,
            keep_decoded=not self.views.whole_images_only,
            cache_bytes=cache_bytes,
        )

    def student_views(self, rows: Sequence[int], *, seed: int, epoch: int) -> list[int]:
        """The view of each row in an epoch; rows of one image share it."""
        return [self.views.student_view(seed=seed, epoch=epoch, image_key=self.keys[row]) for row in rows]

    def prepare(self, request: tuple[Sequence[int], Sequence[int]]) -> Batch:
        """The batch of the rows and views of `request`."""
        return self.batch(*request)

    def batch(self, rows: Sequence[int], views: Sequence[int]) -> Batch:
        """The batch of these rows, each at its view; an image that several rows share is decoded once."""
        index = torch.tensor(rows, dtype=torch.int64)
        rasters, teacher_rasters = self._pixels(rows, views)
        texts = self.samples.texts
        return Batch(
            samples=index,
            views=torch.tensor(views, dtype=torch.int64),
            rasters=rasters,
            tokens=self.tokens[index],
            image_group=self._image_groups[index],
            text_group=self._text_groups[index],
            texts=() if texts is None else tuple(texts[row] for row in rows),
            modalities=tuple(self.samples.modalities[row] for row in rows),
            groups=None if self._groups is None else self._groups[index],
            teacher_rasters=teacher_rasters,
        )

    def _pixels(self, rows: Sequence[int], views: Sequence[int]) -> tuple[Tensor, dict[Geometry, Tensor]]:
        if self._student is None:
            return torch.zeros(len(rows), 0, 0, 3, dtype=torch.uint8), {}
        student_geometry = self._student
        geometries = (student_geometry, *self._teachers)
        arrays = [np.empty((len(rows), shape.height, shape.width, 3), dtype=np.uint8) for shape in geometries]
        places: dict[tuple[str, int], list[int]] = {}
        for place, (row, view) in enumerate(zip(rows, views, strict=True)):
            places.setdefault((self.keys[row], view), []).append(place)
        distinct = list(places.values())

        def fill(number: int) -> None:
            shown = distinct[number]
            view = views[shown[0]]
            teacher_view = self.views.teacher_view(view)
            wanted = [(view, student_geometry), *((teacher_view, shape) for shape in self._teachers)]
            for array, raster in zip(arrays, self._rasters.of(rows[shown[0]], wanted), strict=True):
                array[shown] = raster

        self._threads.run(fill, range(len(distinct)))
        student, *teachers = [torch.from_numpy(array) for array in arrays]
        return student, dict(zip(self._teachers, teachers, strict=True))


def _text_groups(samples: Samples) -> NDArray[np.int64]:
    """A number for each distinct caption, and one below 0 for each row without any."""
    groups: NDArray[np.int64] = -1 - np.arange(len(samples), dtype=np.int64)
    captioned = samples.captioned
    groups[captioned] = group_ids([key for key in text_keys(samples) if key])
    return groups


def token_table(
    texts: Sequence[str], tokenize: Callable[[list[str]], Tensor], *, chunk: int = 4096
) -> Int[Tensor, "texts context"]:
    """Token rows of all texts, int32; each distinct text is tokenised once."""
    places: dict[str, int] = {}
    index = torch.tensor([places.setdefault(text, len(places)) for text in texts], dtype=torch.int64)
    distinct = list(places)
    parts = [tokenize(distinct[start : start + chunk]) for start in range(0, len(distinct), chunk)]
    return torch.cat(parts).to(torch.int32)[index]
