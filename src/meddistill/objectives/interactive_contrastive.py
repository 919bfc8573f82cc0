"""Contrastive loss between one side of the student and the other side of a teacher."""

import math
from dataclasses import replace
from typing import final

from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.base import (
    Objective,
    RowContext,
    both_towers,
    diagonal_only,
    multi_positive_cross_entropy,
    normalized,
    row_losses,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs

PUBLISHED_SCALE = math.log(1 / 0.07)


@final
class InteractiveContrastive(Objective):
    """ℓ_i = ½ [CE(c·û_i V̂ᵀ, y_i) + CE(c·v̂_i Ûᵀ, y_i)].

    û, v̂ are the student's normalised image and text embeddings after the teacher's head, Û, V̂ the teacher's
    over the rows of the mask, y_i uniform over the rows with row i's image or caption. ICL of CLIP-KD (Yang
    et al. 2024). The negatives of a row are rows of the *same* teacher only.

    c is the student's exponentiated logit scale, learnt with it, unless `scale` fixes it. CLIP-KD and
    MMKD-CLIP put ln(1/0.07) = 2.659 there without the exponential, and MMKD-CLIP never trains it.
    `as_published` is that constant, the bare diagonal, the teacher's embeddings as they are instead of
    normalised, and MMKD-CLIP's negatives: one softmax over the batch in which the teacher's column j is of
    the teacher drawn for row j, so that a row is also told from what other teachers, whose spaces are not
    aligned with its own teacher's, say of other rows. For that the method hands over `mixed_rows` of all
    teachers (see `InteractiveContrastiveOptions`).
    """

    def __init__(self, *, scale: float | None = None, as_published: bool = False) -> None:
        super().__init__()
        self.scale = PUBLISHED_SCALE if as_published and scale is None else scale
        self.as_published = as_published

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask with both towers.

        Raises TeacherError where the teacher lacks a tower.
        """
        image, text, mask = both_towers(teacher, context.mask, objective="interactive_contrastive")
        context = replace(context, mask=mask)
        context = diagonal_only(context) if self.as_published else context
        scale = student.logit_scale if self.scale is None else self.scale
        target_text, target_image = self._target(text), self._target(image)
        image_to_text = multi_positive_cross_entropy(
            scale * normalized(student.image) @ target_text.T, context
        )
        text_to_image = multi_positive_cross_entropy(
            scale * normalized(student.text) @ target_image.T, context
        )
        return row_losses((image_to_text + text_to_image) / 2, mask)

    def _target(self, rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        return rows if self.as_published else normalized(rows)
