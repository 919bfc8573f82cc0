"""The order of rows: a function of seed, epoch and step, and of nothing else."""

from dataclasses import dataclass

import numpy as np

from meddistill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """Global batches of an epoch, and this process's share of each.

    `rows`: samples. `batch_size`: rows of one optimiser step over all processes. An epoch is a permutation
    drawn by `(seed, epoch)`, cut into `floor(rows / batch_size)` whole batches; the rest sits out this epoch.
    Process p of P takes the p-th of P equal runs of every batch, so the union over processes is the batch of
    one process, in its order. Raises ConfigError, naming `batch_size`, where that is not possible.
    """

    rows: int
    batch_size: int
    seed: int
    processes: int = 1
    process: int = 0

    def __post_init__(self) -> None:
        mistakes = []
        if self.batch_size < 1 or self.batch_size > self.rows:
            got = f"{self.batch_size} for {self.rows} rows"
            mistakes.append(f"`batch_size` must be from 1 to the rows; got {got}. Lower it or add rows.")
        if self.batch_size % self.processes:
            mistakes.append(
                f"`batch_size` must be a multiple of the processes; got {self.batch_size} for "
                f"{self.processes}. It counts the rows of all processes together."
            )
        if mistakes:
            subject = "batches"
            raise ConfigError(subject, mistakes)
        if not 0 <= self.process < self.processes or self.seed < 0:
            msg = f"`process` must be in [0, `processes`) and `seed` not negative; got {self}."
            raise ValueError(msg)

    @property
    def steps(self) -> int:
        """Whole batches of an epoch."""
        return self.rows // self.batch_size

    def batches(self, epoch: int, start_step: int = 0) -> list[list[int]]:
        """This process's rows of every batch of `epoch` from `start_step` on."""
        if not 0 <= start_step <= self.steps:
            msg = f"`start_step` must be in [0, {self.steps}]; got {start_step}."
            raise ValueError(msg)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        share = self.batch_size // self.processes
        whole = order[: self.steps * self.batch_size].reshape(self.steps, self.processes, share)
        own: list[list[int]] = whole[start_step:, self.process].tolist()
        return own
