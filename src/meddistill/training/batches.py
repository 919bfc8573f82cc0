"""Where a stage's batches come from, and parts of a batch."""

from collections.abc import Iterable, Sequence
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
    """The batch on `device`, but for what is looked at on the host (`Batch.on_host`).

    Stored outputs and ids are looked up by `samples` and `views`, and the student cuts common padding off its
    `tokens`; reading them back would wait for the device in every step.
    """
    rows = {name: each for name, each in batch.per_row().items() if name not in batch.on_host}
    return batch.with_rows({name: to_device(each, device) for name, each in rows.items()})
