"""Weights in the space of gradients: the shortest mixture of the teachers' gradients."""

from typing import Any, Final, cast, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.least_norm import at_most, least_norm, least_norm_pair
from meddistill.balancing.teacher_weights import TeacherWeighting, on_host
from meddistill.records import to_device

# A share of 0 is one that can be raised where a cap leaves more to share out.
_NOTHING: Final = 1e-100
_SHORTEST: Final = 1e-12


@final
class MinNorm(TeacherWeighting):
    """α = argmin ½|Σ_t α_t·g_t|² subject to Σ α_t = 1, 0 ≤ α_t ≤ C over the teachers with rows.

    g_t is the gradient of teacher t's mean loss at the student's embeddings. With C = 1 (`max_weight`) this
    is MGDA (Désidéri 2012; Sener and Koltun 2018): the direction d = Σ α_t·g_t has <g_t, d> ≥ |d|² for every
    teacher, so that a small step raises no teacher's loss. With C = 1/M it is the mean. C between is
    AE-KD's tolerance (Du et al. 2020), who take gradients at the student's logits; a batch with fewer
    teachers than 1/C has C = 1/(their number). AE-KD solves it as a one-class SVM with ν = 1/(C·M); here
    `least_norm` does, on the host in float64, for which each step with a solution waits for the device once.
    With two teachers the closed form stays on the device. AMMKD says that it weighs by the diversity of
    gradients and does not publish how; its wording is AE-KD's.

    `normalize`: the problem is solved for g_t/|g_t|, its solution divided by |g_t| and brought to sum 1
    again, so that Σ α_t·g_t has the direction of the solution (AE-KD's `svm_norm`). Unlike there α is then
    bounded by C again, the proportions of the others being kept. A length counts as 1e-12 of the longest
    where it is less.

    `groups`: α by group of rows. g_kt is teacher t's gradient at the rows of group k alone, times n_t/n_kt:
    the gradient of its mean over those rows, as far as a row's loss moves that row's own embeddings. No
    further backward pass is needed.

    `smoothing` s and `every`: in the first step and each `every`-th from there the problem is solved, and for
    the n teachers with rows β_t ← s·β_t + (1 − s)·α_t·n, which is 1 for an equal share and at the start.
    Every step's weights are in proportion to β over its teachers, bounded by C. A teacher that is not there
    keeps its β. β and the number of steps are in the checkpoint.

    Where a gradient is not finite, its group has equal weights and β stays: no teacher is dropped for it, so
    it shows in the loss or its gradient, and the training loop stops with the teacher's name.
    """

    relative: Float[Tensor, "groups teachers"]
    steps: Int[Tensor, ""]

    def __init__(
        self,
        teachers: int,
        *,
        max_weight: float = 1.0,
        normalize: bool = False,
        smoothing: float = 0.0,
        every: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.max_weight = max_weight
        self.normalize = normalize
        self.smoothing = smoothing
        self.every = every
        self.groups = groups
        self.register_buffer("relative", torch.ones(groups, teachers, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._steps = 0  # as the buffer, on the host
        self.register_load_state_dict_post_hook(_count_steps)

    def teacher_weights(
        self, context: BalancingContext, rows: Float[Tensor, "groups teachers"]
    ) -> Float[Tensor, "groups teachers"]:
        """By the rule, or as they were."""
        present = rows > 0
        number = present.sum(dim=1, keepdim=True).clamp_min(1).double()
        cap = (1 / number).clamp_min(self.max_weight)
        finite = torch.ones_like(number, dtype=torch.bool)
        if self._steps % self.every == 0:
            gramians = self._gramians(context, rows)
            finite = gramians.isfinite().flatten(start_dim=1).all(dim=1, keepdim=True)
            shares = self._solve(torch.where(finite[..., None], gramians, 0.0), present, cap)
            blended = self.smoothing * self.relative + (1 - self.smoothing) * shares * number
            self.relative.copy_(torch.where(present & finite, blended, self.relative))
        self._steps += 1
        self.steps += 1
        return at_most(torch.where(finite, self.relative, 1.0).clamp_min(_NOTHING) * present, cap)

    def _gramians(
        self, context: BalancingContext, rows: Float[Tensor, "groups teachers"]
    ) -> Float[Tensor, "groups teachers teachers"]:
        """Of each group the products of the gradients of the teachers' means over its rows."""
        if self.groups == 1:
            return context.gramian()[None]
        scale = rows.sum(dim=0) / rows.clamp_min(1)
        return context.gramians(self.members(context)) * scale[:, :, None] * scale[:, None, :]

    def _solve(
        self,
        gramians: Float[Tensor, "groups teachers teachers"],
        present: Bool[Tensor, "groups teachers"],
        cap: Float[Tensor, "groups 1"],
    ) -> Float[Tensor, "groups teachers"]:
        """α of each group, 0 for teachers without rows."""
        lengths = gramians.diagonal(dim1=1, dim2=2).sqrt()
        longest = lengths.amax(dim=1, keepdim=True)
        lengths = torch.maximum(lengths, _SHORTEST * torch.where(longest > 0, longest, 1.0))
        if self.normalize:
            gramians = gramians / (lengths[:, :, None] * lengths[:, None, :])
        shares = _least_norms(gramians, present, cap)
        if self.normalize:
            shares = at_most((shares / lengths).clamp_min(_NOTHING) * present, cap)
        return shares


def _least_norms(
    gramians: Float[Tensor, "groups teachers teachers"],
    present: Bool[Tensor, "groups teachers"],
    cap: Float[Tensor, "groups 1"],
) -> Float[Tensor, "groups teachers"]:
    if gramians.shape[1] == 2:
        both = present.all(dim=1, keepdim=True)
        return torch.where(both, least_norm_pair(gramians, cap), present.double())
    here, there, caps = on_host(gramians, present, cap)
    shares = torch.zeros_like(there)
    for group in range(len(there)):
        kept = there[group] > 0
        if kept.any():
            part = here[group][kept][:, kept].numpy()
            shares[group, kept] = torch.from_numpy(least_norm(part, float(caps[group])))
    return to_device(shares, gramians.device)


def _count_steps(module: nn.Module, *_: Any) -> None:
    rule = cast("MinNorm", module)
    rule._steps = int(rule.steps)
