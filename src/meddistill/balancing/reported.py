"""Numbers of a batch for the log, which nobody waits for."""

from dataclasses import dataclass
from itertools import combinations
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@final
@dataclass(frozen=True, kw_only=True)
class Reported:
    """Named scalars of one batch, on the device.

    The log has Σ `totals` / Σ `counts` over the steps since its last line under `names`, and nothing where
    the counts are 0. `names` are as the log has them, of the same rule always the same.
    """

    names: tuple[str, ...]
    totals: Float[Tensor, " names"]
    counts: Float[Tensor, " names"]


def gradient_report(
    gramian: Float[Tensor, "teachers teachers"],
    present: Bool[Tensor, " teachers"],
    *,
    teachers: tuple[str, ...],
) -> Reported:
    """What the teachers' gradients are to one another.

    `teacher/<id>/gradient_norm` of those with rows, `gradients/cosine/<id>/<id>` of pairs whose gradients are
    both above 0, and `gradients/conflict`, the share of those pairs whose cosine is below 0.
    """
    squares = gramian.diagonal()
    norms = squares.sqrt()
    one, other = torch.triu_indices(len(teachers), len(teachers), offset=1, device=gramian.device)
    counted = (squares[one] > 0) & (squares[other] > 0)
    cosines = torch.where(counted, gramian[one, other] / (norms[one] * norms[other]), 0.0)
    pairs, conflicts = counted.to(squares.dtype), (cosines < 0).to(squares.dtype)
    return Reported(
        names=(
            *(f"teacher/{name}/gradient_norm" for name in teachers),
            *(f"gradients/cosine/{first}/{second}" for first, second in combinations(teachers, 2)),
            "gradients/conflict",
        ),
        totals=torch.cat([norms * present, cosines, conflicts.sum(dim=0, keepdim=True)]),
        counts=torch.cat([present.to(squares.dtype), pairs, pairs.sum(dim=0, keepdim=True)]),
    )
