"""The one place where losses per row and teacher become a number."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def reduce(
    totals: Float[Tensor, "batch teachers"],
    counts: Float[Tensor, "batch teachers"],
    weights: Float[Tensor, "batch teachers"],
) -> Float[Tensor, ""]:
    """L = Σ_bt w_bt·total_bt / Σ_bt |w_bt|·count_bt; 0 where no row counts.

    One denominator for the whole batch: a mean over rows, tokens or pixels, never a mean of means. With
    weights that sum to 1 in a row and a count of 1 for each row it is the mean over the rows with a selected
    teacher of their weighted losses. Absolute values, because some rules over gradients give a teacher a
    weight below 0, and a denominator must neither vanish nor turn the sign.
    """
    return _quotient((weights * totals).sum(), (weights.abs() * counts).sum())


def reduce_each(
    totals: Float[Tensor, "batch teachers"],
    counts: Float[Tensor, "batch teachers"],
    mask: Bool[Tensor, "batch teachers"],
) -> Float[Tensor, " teachers"]:
    """`reduce` for each teacher alone, over the rows of the mask: L_t = Σ_b total_bt / Σ_b count_bt."""
    kept = mask.to(totals.dtype)
    return _quotient((kept * totals).sum(dim=0), (kept * counts).sum(dim=0))


def _quotient(weighted: Float[Tensor, "*any"], counted: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    return weighted / torch.where(counted > 0, counted, 1.0)
