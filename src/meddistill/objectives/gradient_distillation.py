"""Mean squared error between the gradients of the contrastive losses of the student and of a teacher."""

from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.base import (
    Objective,
    RowContext,
    both_towers,
    diagonal_only,
    masked_log_softmax,
    multi_positive_targets,
    normalized,
    row_losses,
)
from meddistill.objectives.similarities import teacher_scale_of
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@dataclass(frozen=True, kw_only=True)
class ContrastiveGradients:
    """∂L/∂p and ∂L/∂k of L = 1/n Σ_i CE(softmax_j(s·p_i·k_j), y_i) over the n rows of the mask."""

    anchors: Float[Tensor, "batch dim"]
    others: Float[Tensor, "batch dim"]


@final
class GradientDistillation(Objective):
    """ℓ_i = 1/d Σ_four terms ‖∂_s,i − ∂_t,i‖².

    ∂_s are the gradients of the student's contrastive losses at its own normalised embeddings û, v̂ (after
    the teacher's head), ∂_t those of the teacher's at Û, V̂; d is the teacher's dim. The four terms are image
    and text in the loss of images against texts, and both in the loss of texts against images. With P_ij =
    softmax_j(s·p_i·k_j), Y_ij uniform over the positives of row i and n the rows of the mask

        ∂L/∂p_i = s/n Σ_j (P_ij − Y_ij) k_j        ∂L/∂k_j = s/n Σ_i (P_ij − Y_ij) p_i

    s is the student's logit scale (with gradient), for the teacher its own or `teacher_scale`. GD of CLIP-KD
    (Yang et al. 2024). A row's contrastive gradient falls as 1/n, so the loss falls as
    1/n²: the weight belongs to a batch size, and drawing one of T teachers a row multiplies the loss by T².

    `as_published`: the paper's 1/τ is the scale s, but its code hands over s where τ is meant, and so divides
    logits and gradients by s. It has the bare diagonal as targets. Its weight of 1e8 goes with that.
    """

    def __init__(self, *, teacher_scale: float | None = None, as_published: bool = False) -> None:
        super().__init__()
        self.teacher_scale = teacher_scale
        self.as_published = as_published

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, from 0; count 1 for each row of the mask with both towers.

        Raises TeacherError where the teacher lacks a tower, or has neither a logit scale nor `teacher_scale`.
        """
        image, text, mask = both_towers(teacher, context.mask, objective="gradient_distillation")
        context = replace(context, mask=mask)
        scale = teacher_scale_of(teacher, self.teacher_scale, objective="gradient_distillation")
        context = diagonal_only(context) if self.as_published else context
        ours = (normalized(student.image), normalized(student.text))
        theirs = (normalized(image), normalized(text))
        total = ours[0].new_zeros(len(mask))
        for anchors, others in ((0, 1), (1, 0)):
            mine = contrastive_gradients(
                ours[anchors], ours[others], scale=self._factor(student.logit_scale), context=context
            )
            target = contrastive_gradients(
                theirs[anchors], theirs[others], scale=self._factor(scale), context=context
            )
            total = total + (mine.anchors - target.anchors).square().mean(dim=-1)
            total = total + (mine.others - target.others).square().mean(dim=-1)
        return row_losses(total, mask)

    def _factor(self, scale: Tensor | float) -> Tensor | float:
        return 1 / scale if self.as_published else scale


def contrastive_gradients(
    anchors: Float[Tensor, "batch dim"],
    others: Float[Tensor, "batch dim"],
    *,
    scale: Tensor | float,
    context: RowContext,
) -> ContrastiveGradients:
    """The gradients of one direction of the loss, themselves differentiable; zero in masked rows."""
    rows = context.mask.sum().clamp_min(1)
    probability = masked_log_softmax(scale * anchors @ others.T, context.mask).exp()
    both = context.mask[:, None] & context.mask[None, :]
    targets = multi_positive_targets(context, dtype=probability.dtype)
    excess = torch.where(both, probability - targets, 0.0) * scale / rows
    return ContrastiveGradients(anchors=excess @ others, others=excess.T @ anchors)
