"""Rules that weigh teachers as wholes: one weight a teacher and step, or one in each group of rows."""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.reduce import reduce
from meddistill.balancing.weighting import Weighting


class TeacherWeighting(Weighting):
    """w_bt = α_kt·R_k / n_kt for a row b of group k: one weight α_kt for each teacher with rows there.

    n_kt are the rows of the group that teacher t is selected for, R_k those with any teacher. So
    Σ_b∈k w_bt / R_k = α_kt, and with one group the reduced loss is Σ_t α_t·ℓ̄_t for whatever rows each teacher
    has, and whatever they count: what a rule says of its direction holds, which it would not with weights
    that sum to 1 in a row. With several groups a group counts by its rows, Σ_k R_k/R·Σ_t α_kt·ℓ̄_kt. The final
    backward has α as constants; it goes through the heads too.

    Σ_t |α_kt| = 1 over the teachers with rows in the group; the others are left out of what the rule sees.
    """

    groups: int = 1

    @abstractmethod
    def teacher_weights(
        self, context: BalancingContext, rows: Float[Tensor, "groups teachers"]
    ) -> Float[Tensor, "groups teachers"]:
        """α, in float64; `rows` are the n_kt, 0 for teachers that are to be left out."""

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """The same weight for each of a teacher's selected rows of a group."""
        members = self.members(context)
        selected = context.selected.to(members.dtype)
        rows = members @ selected
        whole = members @ context.selected.any(dim=1).to(members.dtype)
        factors = self.teacher_weights(context, rows) * (whole[:, None] / rows.clamp_min(1))
        return (selected * (members.T @ factors)).to(context.losses.dtype)

    def members(self, context: BalancingContext) -> Float[Tensor, "groups batch"]:
        """1 for the rows of each group, in float64; with one group for all."""
        groups = context.groups if self.groups > 1 else torch.zeros_like(context.groups)
        numbers = torch.arange(self.groups, device=groups.device)
        return (groups == numbers[:, None]).double()

    def reduced(
        self,
        totals: Float[Tensor, "batch teachers"],
        counts: Float[Tensor, "batch teachers"],
        weights: Float[Tensor, "batch teachers"],
    ) -> Float[Tensor, ""]:
        """Σ_t α_t·ℓ̄_t, whichever of a teacher's rows the objective counts: `whole_teachers` of `reduce`."""
        return reduce(totals, counts, weights, whole_teachers=True)


def on_host(*values: Tensor) -> list[Tensor]:
    """The values in float64 on the host, the device being waited for once."""
    on_cpu = torch.cat([value.double().flatten() for value in values]).cpu()
    parts = on_cpu.split([value.numel() for value in values])
    return [part.view(value.shape) for part, value in zip(parts, values, strict=True)]
