"""How much each selected teacher counts for a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.reduce import quotient, reduce


class Weighting(nn.Module, ABC):
    """A rule that weights the selected teachers of each row."""

    @abstractmethod
    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """Weights without gradient, 0 for teachers that are not selected.

        As a rule they sum to 1 over each row's selected teachers. Rules that give one weight to a teacher
        and a step (torchjd) say what sums to 1 instead.
        """

    def reduced(
        self,
        totals: Float[Tensor, "batch teachers"],
        counts: Float[Tensor, "batch teachers"],
        weights: Float[Tensor, "batch teachers"],
    ) -> Float[Tensor, ""]:
        """One objective's loss under the rule's `weights`."""
        return reduce(totals, counts, weights)

    def own_loss(self, context: BalancingContext) -> Float[Tensor, ""] | None:  # noqa: ARG002
        """What the rule's own parameters learn from, if it has any. Nothing else gets a gradient of it."""
        return None


def normalize_rows(amounts: Float[Tensor, "batch teachers"]) -> Float[Tensor, "batch teachers"]:
    """Amounts ≥ 0 divided by their sum over a row; zeros where that is 0."""
    return quotient(amounts, amounts.sum(dim=1, keepdim=True))


def masked_softmax(
    logits: Float[Tensor, "batch teachers"], mask: Bool[Tensor, "batch teachers"]
) -> Float[Tensor, "batch teachers"]:
    """Softmax over each row's teachers of the mask; zeros elsewhere, and in rows without any."""
    lowest = torch.finfo(logits.dtype).min / 2
    return torch.where(mask, logits.masked_fill(~mask, lowest).softmax(dim=1), 0.0)


@final
class Uniform(Weighting):
    """w_bt = 1 / number of row b's selected teachers."""

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """Equal shares."""
        return normalize_rows(context.selected.to(context.losses.dtype))


@final
class Fixed(Weighting):
    """w_bt = a_t / Σ_{t' selected} a_t', for given a ≥ 0."""

    factors: Float[Tensor, " teachers"]

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32), persistent=False)

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """Shares in proportion to the factors; zeros where all selected teachers have factor 0."""
        return normalize_rows(context.selected * self.factors.to(context.losses.dtype))
