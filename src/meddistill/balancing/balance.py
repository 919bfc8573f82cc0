"""The one way from losses per row and teacher to a loss: dropping, weighting, reduction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.reduce import by_row, quotient, reduce_each
from meddistill.balancing.selection import Selection
from meddistill.balancing.weighting import Weighting
from meddistill.records import RowLosses


@final
@dataclass(frozen=True, kw_only=True)
class Balanced:
    """What came of a batch: each objective's loss, what the weighting itself learns from, and, for the log,
    each teacher's loss as if it stood alone and its mean weight over the rows that have a teacher.
    """

    parts: Mapping[str, Float[Tensor, ""]]
    own_loss: Float[Tensor, ""] | None
    teacher_losses: Float[Tensor, " teachers"]
    teacher_weights: Float[Tensor, " teachers"]


def balance(
    losses: Mapping[str, Sequence[RowLosses]],
    *,
    factors: Mapping[str, Tensor | float],
    rules: tuple[Selection, Weighting],
    selected: Bool[Tensor, "batch teachers"],
    generator: torch.Generator,
    embeddings: tuple[Float[Tensor, "batch dim"], ...],
    own_losses: Callable[[float | None], Float[Tensor, "batch teachers"]],
) -> Balanced:
    """Reduce the losses of each objective, teacher by teacher, to one number an objective.

    Parameters
    ----------
    losses
        Objective → losses and counts of every teacher; 0 for rows that it does not count.
    factors
        Objective → λ, for rules that look at Σ_o λ_o·ℓ_o.
    rules
        The selection, which may drop teachers from rows now that losses are known, and the weighting.
    selected
        Which teachers the selection picked for each row.
    generator
        As the selection left it.
    embeddings
        The student's, where weightings take gradients.
    own_losses
        The teachers' own contrastive losses, for weightings that ask for them.
    """
    selection, weighting = rules
    totals = {name: torch.stack([row.total for row in rows], dim=1) for name, rows in losses.items()}
    counts = {name: torch.stack([row.count for row in rows], dim=1) for name, rows in losses.items()}
    of_teachers = partial(_teacher_losses, totals, counts, factors)
    terms = [factors[name] * by_row(totals[name], counts[name]) for name in totals]
    combined = torch.stack(terms).sum(dim=0).detach()
    counted = selected & torch.stack(list(counts.values())).gt(0).any(dim=0)
    kept = selection.drop_by_loss(combined, counted, generator)
    context = BalancingContext(
        losses=combined,
        selected=kept,
        generator=generator,
        embeddings=embeddings,
        teacher_losses=partial(of_teachers, kept),
        own_losses=own_losses,
    )
    weights = weighting.weights(context)
    rows = kept.any(dim=1).sum()
    return Balanced(
        parts={name: weighting.reduced(totals[name], counts[name], weights) for name in totals},
        own_loss=weighting.own_loss(context),
        teacher_losses=of_teachers(weights.abs()).detach(),
        teacher_weights=quotient(weights.sum(dim=0), rows).detach(),
    )


def _teacher_losses(
    totals: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
    factors: Mapping[str, Tensor | float],
    weights: Tensor,
) -> Float[Tensor, " teachers"]:
    """Σ_o λ_o·L_ot, each teacher's loss if it stood alone, with gradient; `weights` or a mask."""
    terms = [factors[name] * reduce_each(totals[name], counts[name], weights) for name in totals]
    return torch.stack(terms).sum(dim=0)
