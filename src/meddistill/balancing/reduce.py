"""The one place where losses per row and teacher become a number."""

import torch
from jaxtyping import Float
from torch import Tensor


def reduce(
    totals: Float[Tensor, "batch teachers"],
    counts: Float[Tensor, "batch teachers"],
    weights: Float[Tensor, "batch teachers"],
) -> Float[Tensor, ""]:
    """L = Σ_bt w_bt·total_bt / Σ_bt w_bt·count_bt; 0 where no row counts.

    One denominator for the whole batch: a mean over rows, tokens or pixels, never a mean of means. With
    weights that sum to 1 in a row and a count of 1 for each row it is the mean over the rows with a selected
    teacher of their weighted losses.
    """
    weighted = (weights * totals).sum()
    counted = (weights * counts).sum()
    return weighted / torch.where(counted > 0, counted, 1.0)
