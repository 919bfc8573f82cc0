"""The one place where losses per row and teacher become a number."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def reduce(
    totals: Float[Tensor, "batch teachers"],
    counts: Float[Tensor, "batch teachers"],
    weights: Float[Tensor, "batch teachers"],
    *,
    whole_teachers: bool = False,
) -> Float[Tensor, ""]:
    """L = Σ_t W_t·L_t / Σ_t W_t, L_t of `reduce_each` and W_t = Σ_b |w_bt|·[count_bt > 0]; 0 without rows.

    Within a teacher one denominator for the whole batch: a mean over its rows, tokens or pixels, never a mean
    of means. Between teachers their weights alone decide: one of 4096 tokens an image counts no more than one
    of 49. Where counts are 0 or 1 this is Σ_bt w_bt·total_bt / Σ_bt |w_bt|·count_bt; with weights that sum to
    1 in a row, the mean over the rows with a teacher of their weighted losses.

    `whole_teachers`, for rules that weigh teachers and not rows, departs from that: W_t = Σ_b |w_bt|, also
    over rows that a loss does not count, so that what a teacher counts does not depend on how many it does.
    They can differ only where a loss leaves out rows that a teacher is selected for, some or all.
    """
    amounts = weights.abs() if whole_teachers else weights.abs() * (counts > 0)
    of_teachers = amounts.sum(dim=0)
    return quotient((of_teachers * reduce_each(totals, counts, weights)).sum(), of_teachers.sum())


def reduce_each(
    totals: Float[Tensor, "batch teachers"],
    counts: Float[Tensor, "batch teachers"],
    weights: Float[Tensor, "batch teachers"] | Bool[Tensor, "batch teachers"],
) -> Float[Tensor, " teachers"]:
    """`reduce` for each teacher alone: L_t = Σ_b w_bt·total_bt / Σ_b |w_bt|·count_bt; 0 without rows.

    Absolute values, because some rules over gradients give a teacher a weight below 0, and a denominator must
    neither vanish nor turn the sign.
    """
    weights = weights.to(totals.dtype)
    return quotient((weights * totals).sum(dim=0), (weights.abs() * counts).sum(dim=0))


def by_row(
    totals: Float[Tensor, "batch teachers"], counts: Float[Tensor, "batch teachers"]
) -> Float[Tensor, "batch teachers"]:
    """ℓ_bt = total_bt / c̄_t with c̄_t the mean count of teacher t's rows that count; 0 for the others.

    So the mean over those rows is L_t, where dividing by a row's own count would give a mean of means.
    """
    rows = (counts > 0).sum(dim=0)
    return totals * quotient(rows.to(totals.dtype), counts.sum(dim=0))


def quotient(weighted: Float[Tensor, "*any"], counted: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """`weighted` / `counted`; `weighted` where nothing is counted."""
    return weighted / torch.where(counted > 0, counted, 1.0)
