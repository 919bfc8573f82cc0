"""The one way from losses per row and teacher to a loss: dropping, weighting, reduction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.context import BalancingContext, TeacherQueries
from meddistill.balancing.reduce import by_row, quotient, reduce_each
from meddistill.balancing.reported import Reported
from meddistill.balancing.selection import Selection
from meddistill.balancing.weighting import Weighting
from meddistill.records import RowLosses, StudentOutputs


@final
@dataclass(frozen=True, kw_only=True)
class Balanced:
    """What came of a batch: each objective's loss, what the weighting itself learns from, and, for the log,
    each teacher's loss as if it stood alone, its mean weight over the rows that have a teacher, and what else
    the weighting has to say.
    """

    parts: Mapping[str, Float[Tensor, ""]]
    own_loss: Float[Tensor, ""] | None
    teacher_losses: Float[Tensor, " teachers"]
    teacher_weights: Float[Tensor, " teachers"]
    reported: tuple[Reported, ...]


def balance(
    losses: Mapping[str, Mapping[str, RowLosses]],
    *,
    factors: Mapping[str, Tensor | float],
    rules: tuple[Selection, Weighting],
    selected: Bool[Tensor, "batch teachers"],
    generator: torch.Generator,
    student: StudentOutputs,
    queries: TeacherQueries,
) -> Balanced:
    """Reduce the losses of each objective, teacher by teacher, to one number an objective.

    Parameters
    ----------
    losses
        Objective → teacher → losses and counts; 0 for rows that the objective does not count.
    factors
        Objective → λ, for rules that look at Σ_o λ_o·ℓ_o.
    rules
        The selection, which may drop teachers from rows now that losses are known, and the weighting.
    selected
        Which teachers the selection picked for each row.
    generator
        As the selection left it.
    student
        The student's embeddings, where weightings take gradients, and the groups of rows.
    queries
        What weightings may ask of the teachers.
    """
    selection, weighting = rules
    totals = {name: torch.stack([row.total for row in rows.values()], dim=1) for name, rows in losses.items()}
    counts = {name: torch.stack([row.count for row in rows.values()], dim=1) for name, rows in losses.items()}
    terms = [factors[name] * by_row(totals[name], counts[name]) for name in totals]
    combined = torch.stack(terms).sum(dim=0).detach()
    counted = selected & torch.stack(list(counts.values())).gt(0).any(dim=0)
    kept = selection.drop_by_loss(combined, counted, generator)
    context = BalancingContext(
        teachers=tuple(next(iter(losses.values()))),
        losses=combined,
        selected=kept,
        groups=kept.new_zeros(len(kept), dtype=torch.int64) if student.groups is None else student.groups,
        generator=generator,
        embeddings=tuple(student.embeddings().values()),
        teacher_losses=partial(_each_alone, losses, factors, kept),
        queries=queries,
    )
    weights = weighting.weights(context)
    rows = kept.any(dim=1).sum()
    return Balanced(
        parts={name: weighting.reduced(totals[name], counts[name], weights) for name in totals},
        own_loss=weighting.own_loss(context),
        teacher_losses=_teacher_losses(totals, counts, factors, weights.abs()).detach(),
        teacher_weights=quotient(weights.sum(dim=0), rows).detach(),
        reported=tuple(context.reported),
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


def _each_alone(
    losses: Mapping[str, Mapping[str, RowLosses]],
    factors: Mapping[str, Tensor | float],
    mask: Bool[Tensor, "batch teachers"],
) -> list[Float[Tensor, ""]]:
    """The same, each with a graph of its own: a backward pass from one does not run through the others'."""
    names = next(iter(losses.values()))
    found = []
    for place, teacher in enumerate(names):
        totals = {name: rows[teacher].total[:, None] for name, rows in losses.items()}
        counts = {name: rows[teacher].count[:, None] for name, rows in losses.items()}
        found.append(_teacher_losses(totals, counts, factors, mask[:, place : place + 1])[0])
    return found
