"""Which teachers count for a row. Comes before the objectives."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor

from meddistill.balancing.config import RandomDrawConfig, SelectionConfig


class Selection(ABC):
    """A rule that picks among the available teachers of each row."""

    @abstractmethod
    def select(
        self, available: Bool[Tensor, "batch teachers"], generator: torch.Generator
    ) -> Bool[Tensor, "batch teachers"]:
        """The selected teachers, a subset of the available ones.

        `generator` lives on the CPU and is seeded by (seed, step). The whole global batch is drawn at once,
        so the draw is the same for any number of processes, any micro-batch and any device.
        """


@final
class Available(Selection):
    """Every available teacher."""

    def select(
        self,
        available: Bool[Tensor, "batch teachers"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Bool[Tensor, "batch teachers"]:
        """`available` itself."""
        return available


@final
class RandomDraw(Selection):
    """One teacher a row, uniform over the available ones (MMKD-CLIP); none where none is available."""

    def select(
        self, available: Bool[Tensor, "batch teachers"], generator: torch.Generator
    ) -> Bool[Tensor, "batch teachers"]:
        """With u uniform in [0, 1) and n available teachers, the one of rank ⌊u·n⌋."""
        uniform = torch.rand(len(available), generator=generator)
        number = available.sum(dim=1)
        rank = (uniform.to(available.device, non_blocking=True) * number).floor().long()
        # u < 1, but the product can round up to n, which is nobody's rank.
        rank = torch.minimum(rank, (number - 1).clamp_min(0))
        return available & (available.cumsum(dim=1) == rank[:, None] + 1)


def build_selection(config: SelectionConfig) -> Selection:
    """The rule that a recipe names."""
    return RandomDraw() if isinstance(config, RandomDrawConfig) else Available()
