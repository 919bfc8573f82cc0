"""Which teachers count for a row: picked before the objectives, thinned out after them."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.config import (
    BatchDrawConfig,
    RandomDrawConfig,
    SelectionConfig,
    TeacherDroppingConfig,
)
from meddistill.records import to_device


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

    def drop_by_loss(
        self,
        losses: Float[Tensor, "batch teachers"],  # noqa: ARG002
        selected: Bool[Tensor, "batch teachers"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> Bool[Tensor, "batch teachers"]:
        """The teachers that are weighted and reduced, a subset of the selected ones; as a rule all of them.

        For rules that must know the losses, which are without gradient here. What is taken out now has been
        a negative of the same teacher's other rows. `generator` as `select` left it.
        """
        return selected


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
        rank = (to_device(uniform, available.device) * number).floor().long()
        # u < 1, but the product can round up to n, which is nobody's rank.
        rank = torch.minimum(rank, (number - 1).clamp_min(0))
        return available & (available.cumsum(dim=1) == rank[:, None] + 1)


@final
class BatchDraw(Selection):
    """One teacher for the whole batch; rows that it is not available for have none.

    P(t) = n_t / Σ n, with n_t the rows that teacher t is available for. Its loss is a mean over n_t rows, so
    every available pair of row and teacher has the same expected share, and a teacher without rows is never
    drawn. Negatives are of one teacher throughout (MMKD-CLIP draws per row, which mixes them).
    """

    def select(
        self, available: Bool[Tensor, "batch teachers"], generator: torch.Generator
    ) -> Bool[Tensor, "batch teachers"]:
        """With u uniform in [0, 1), the teacher that the ⌊u·Σn⌋-th available pair belongs to."""
        uniform = to_device(torch.rand(1, generator=generator), available.device)
        up_to = available.sum(dim=0).cumsum(dim=0)
        rank = (uniform * up_to[-1]).floor().long()
        # As above: the product can round up.
        rank = torch.minimum(rank, (up_to[-1] - 1).clamp_min(0))
        before = torch.cat([up_to.new_zeros(1), up_to[:-1]])
        return available & (before <= rank) & (rank < up_to)


@final
class TeacherDropping(Available):
    """Of a row's teachers the one with the highest loss, and each other one with probability 1 − p.

    All available ones are selected at first: their losses must be known to find the highest.

    UNIC (Sariyildiz et al. 2024) with p = 0.5. Its losses stand on standardised features; ours are the
    weighted sum of a stage's objectives, so a teacher whose losses are larger by nature is kept more often.
    And where UNIC leaves dropped losses out of a sum, the weights here sum to 1 over the teachers kept.
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability

    def drop_by_loss(
        self,
        losses: Float[Tensor, "batch teachers"],
        selected: Bool[Tensor, "batch teachers"],
        generator: torch.Generator,
    ) -> Bool[Tensor, "batch teachers"]:
        """The first of the highest, and those whose uniform draw in [0, 1) is at least p."""
        uniform = to_device(torch.rand(selected.shape, generator=generator), selected.device)
        highest = losses.masked_fill(~selected, -torch.inf).argmax(dim=1, keepdim=True)
        teachers = torch.arange(selected.shape[1], device=selected.device)
        return selected & ((uniform >= self.probability) | (teachers == highest))


def build_selection(config: SelectionConfig) -> Selection:
    """The rule that a recipe names."""
    if isinstance(config, RandomDrawConfig):
        return RandomDraw()
    if isinstance(config, BatchDrawConfig):
        return BatchDraw()
    if isinstance(config, TeacherDroppingConfig):
        return TeacherDropping(config.probability)
    return Available()
