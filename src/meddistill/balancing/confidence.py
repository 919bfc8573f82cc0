"""Weights from how sure each teacher is of a row."""

from typing import final

from jaxtyping import Float
from torch import Tensor

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.weighting import Weighting, masked_softmax


@final
class Confidence(Weighting):
    """w_bt = (1 − softmax_t(d_bt)) / (M_b − 1) over a row's M_b selected teachers; 1 where there is one.

    CA-MKD (Zhang et al. 2022), where d_bt is the cross-entropy of teacher t's prediction with the
    label of row b. Pairs have no classes; their label is which caption belongs to which image, so d_bt is the
    teacher's own contrastive loss on row b: its embeddings, its logit scale, the batch's rows that it is
    selected for as negatives. Losses of the student against the teacher would not do: they say how far the
    student is, not how far the teacher is from the truth. Nor would the teacher's cosine (MMT-ARD): cosines
    of one teacher run higher than another's whatever it knows.

    The weights are relative to the teachers that are there: without one of them the others' proportions move
    as the formula has it, in that row alone.
    """

    def __init__(self, *, teacher_scale: float | None = None) -> None:
        super().__init__()
        self.teacher_scale = teacher_scale

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """From the teachers' own losses."""
        doubts = masked_softmax(context.queries.own_losses(self.teacher_scale), context.selected)
        selected = context.selected.to(doubts.dtype)
        number = selected.sum(dim=1, keepdim=True)
        # One teacher alone has doubt 1, and 0 / 0 is its weight.
        return (number == 1) * selected + (number > 1) * selected * (1 - doubts) / (number - 1).clamp_min(1)
