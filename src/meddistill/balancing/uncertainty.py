"""Weights from learnt uncertainties."""

from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.weighting import Weighting, masked_softmax

# AdamW's steps do not depend on the size of a loss; the clipped norm of the whole gradient does, and with
# losses of a hundred the log-variances alone would fill it.
_SIZE: Final = 1e-3


@final
class Uncertainty(Weighting):
    """w_bt = exp(−s_t) / Σ_t' selected exp(−s_t'), where s minimises Σ_t exp(−s_t)·ℓ̄_t + s_t.

    Kendall et al. (2018), with s_t = log σ_t² of teacher t and ℓ̄_t its mean loss over its selected rows, so
    that s_t goes to log ℓ̄_t. Teachers without a row in the batch are left out of the sum. A row that lacks a
    teacher normalises over the others: their proportions stay.

    Deviations. The student gets the normalised weights as constants, not exp(−s_t) itself: otherwise the
    teachers' part would grow against the student's own objectives as the losses fall. The factors of 1/2 of
    the regression likelihood are left out; they move no optimum. s_t = `rate`·(what is stored), so that
    AdamW's steps of about the learning rate become `rate` times that.
    """

    def __init__(self, teachers: int, *, rate: float = 10.0) -> None:
        super().__init__()
        self.rate = rate
        self.scaled = nn.Parameter(torch.zeros(teachers))

    @property
    def log_variances(self) -> Float[Tensor, " teachers"]:
        """s, in log units of the loss; 0 at the start, which is equal weights."""
        return self.rate * self.scaled

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """Softmax of −s over the selected teachers."""
        logits = -self.log_variances.detach().to(context.losses.dtype)
        return masked_softmax(logits.expand_as(context.losses), context.selected)

    def own_loss(self, context: BalancingContext) -> Float[Tensor, ""]:
        """Kendall's sum over the teachers with rows in the batch, made small; gradient for s alone."""
        losses = context.mean_losses
        terms = (-self.log_variances).exp() * losses + self.log_variances
        return _SIZE / self.rate * torch.where(context.selected.any(dim=0), terms, 0.0).sum()
