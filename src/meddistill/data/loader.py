"""Batches for training, and rasters of images in order."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, final

import numpy as np
import torch
from torch import Tensor

from meddistill.arrays import Ints
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import image_keys
from meddistill.data.plan import EpochPlan
from meddistill.data.prefetch import Prefetcher
from meddistill.data.rasters import ImageRasters
from meddistill.data.samples import Samples
from meddistill.data.threads import Threads
from meddistill.imaging import Geometry, ViewPolicy
from meddistill.records import Batch


@final
class BatchLoader:
    """A dataset's batches in the order of a plan. Any batch can be the first; it is the same batch then."""

    def __init__(self, dataset: SampleDataset, *, plan: EpochPlan, workers: int) -> None:
        if plan.rows != len(dataset):
            msg = f"`plan` must be for {len(dataset)} rows; got {plan.rows}."
            raise ValueError(msg)
        self.dataset = dataset
        self.plan = plan
        self._ahead = Prefetcher(dataset, workers=workers)

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids; `Batch.samples` are positions in it."""
        return self.dataset.samples.ids

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.plan.steps

    @property
    def fingerprint(self) -> str:
        """Changes with everything that decides a global batch; not with processes or workers."""
        parts = f"{self.dataset.fingerprint}|{self.plan.rows}|{self.plan.batch_size}|{self.plan.seed}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def batches(self, *, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of every global batch of `epoch`, from batch `start` on.

        Raises ImageError when an image cannot be read (`read_readable` finds all of them beforehand).
        """
        requests = [
            (rows, self.dataset.student_views(rows, seed=self.plan.seed, epoch=epoch))
            for rows in self.plan.batches(epoch, start)
        ]
        return self._ahead.results(requests)

    def close(self) -> None:
        """End the worker processes, if there are any."""
        self._ahead.close()


def make_loader(dataset: SampleDataset, *, plan: EpochPlan, workers: int = 0) -> BatchLoader:
    """A loader of the dataset; `workers` are processes, 0 prepares batches in threads of this one."""
    return BatchLoader(dataset, plan=plan, workers=workers)


@final
class ImageBatches:
    """Rasters of every sample's image in order, each decoded once for all geometries.

    Yields `(rows, rasters)`: positions in `samples`, int64 `[b]`, and uint8 `[b, height, width, 3]` by
    geometry; the last batch may be smaller. Samples that share an image are decoded each; take the distinct
    ones first where that matters. `view` above 0 needs `policy`; `keys` are the `image_keys` by which views
    are drawn, if they are known already.
    """

    def __init__(
        self,
        samples: Samples,
        geometries: Iterable[Geometry],
        *,
        batch_size: int,
        workers: int = 0,
        policy: ViewPolicy | None = None,
        view: int = 0,
        keys: Sequence[str] | None = None,
    ) -> None:
        if batch_size < 1:
            msg = f"`batch_size` must be at least 1; got {batch_size}."
            raise ValueError(msg)
        self._rows, self._batch_size, self._workers = len(samples), batch_size, workers
        if keys is None:
            keys = samples.ids if view == 0 else image_keys(samples)
        rasters = ImageRasters(samples, keys, policy=policy, keep_decoded=False, cache_bytes=0)
        self._preparer = _ImagePreparer(rasters, tuple(sorted(set(geometries))), view, Threads())

    def __len__(self) -> int:
        return -(-self._rows // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Ints, dict[Geometry, Tensor]]]:
        starts = range(0, self._rows, self._batch_size)
        requests = [range(start, min(start + self._batch_size, self._rows)) for start in starts]
        ahead = Prefetcher(self._preparer, workers=min(self._workers, len(requests)))
        try:
            yield from ahead.results(requests)
        finally:
            ahead.close()


class _ImagePreparer:
    def __init__(
        self, rasters: ImageRasters, geometries: tuple[Geometry, ...], view: int, threads: Threads
    ) -> None:
        self._rasters, self._geometries, self._view, self._threads = rasters, geometries, view, threads

    def for_workers(self, workers: int) -> Self:  # noqa: ARG002
        return type(self)(self._rasters, self._geometries, self._view, Threads(1))

    def prepare(self, request: range) -> tuple[Ints, dict[Geometry, Tensor]]:
        arrays = [
            np.empty((len(request), each.height, each.width, 3), dtype=np.uint8) for each in self._geometries
        ]
        wanted = [(self._view, each) for each in self._geometries]

        def fill(place: int) -> None:
            for array, raster in zip(arrays, self._rasters.of(request[place], wanted), strict=True):
                array[place] = raster

        self._threads.run(fill, range(len(request)))
        tensors = (torch.from_numpy(array) for array in arrays)
        return np.asarray(request, dtype=np.int64), dict(zip(self._geometries, tensors, strict=True))
