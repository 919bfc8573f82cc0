"""Where a stage's batches come from, and parts of a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import torch

from meddistill.records import Batch, to_device


class TrainingData(Protocol):
    """Samples in an order that depends on seed and epoch alone; `data.loader.BatchLoader` is one."""

    @property
    def ids(self) -> Sequence[str]:
        """The samples' ids; `Batch.samples` are positions in it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with the data; a checkpoint of other data is refused."""
        ...

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        ...

    def batches(self, *, epoch: int, start: int) -> Iterable[Batch]:
        """This process's share of every global batch of `epoch`, from batch `start` on."""
        ...


def chunks_of(batch: Batch, size: int | None) -> list[slice]:
    """The rows of a batch in runs of at most `size`."""
    step = size or len(batch)
    return [slice(start, min(start + step, len(batch))) for start in range(0, len(batch), step)]


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on `device`, but for what is looked at on the host.

    Stored outputs and ids are looked up by `samples` and `views`, and the student cuts common padding off its
    `tokens`; reading them back would wait for the device in every step.
    """
    return replace(
        batch,
        rasters=to_device(batch.rasters, device),
        image_group=to_device(batch.image_group, device),
        text_group=to_device(batch.text_group, device),
        groups=None if batch.groups is None else to_device(batch.groups, device),
        teacher_rasters={
            geometry: to_device(each, device) for geometry, each in batch.teacher_rasters.items()
        },
    )
