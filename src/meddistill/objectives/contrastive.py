"""The contrastive loss of CLIP, with several positives for a row."""

from typing import final

from meddistill.objectives.base import (
    RowContext,
    StudentObjective,
    diagonal_only,
    multi_positive_cross_entropy,
    normalized,
    row_losses,
)
from meddistill.records import RowLosses, StudentOutputs


@final
class Contrastive(StudentObjective):
    """ℓ_i = ½ [CE(s·û_i V̂ᵀ, y_i) + CE(s·v̂_i Ûᵀ, y_i)].

    û, v̂ are the student's normalised image and text embeddings, s its (exponentiated) logit scale, and y_i
    is uniform over the rows with row i's image or caption. Radford et al. 2021 (figure 3) take the diagonal
    alone, which calls an equal caption in another row a negative; reports repeat, so that is wrong here. It
    stands behind `as_published`.

    Of the shape of the sum: "out" of SupCon (mean of logs), not "in" (log of the mean).
    """

    def __init__(self, *, as_published: bool = False) -> None:
        super().__init__()
        self.as_published = as_published

    def forward(self, student: StudentOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask."""
        context = diagonal_only(context) if self.as_published else context
        logits = student.logit_scale * normalized(student.image) @ normalized(student.text).T
        image_to_text = multi_positive_cross_entropy(logits, context)
        text_to_image = multi_positive_cross_entropy(logits.T, context)
        return row_losses((image_to_text + text_to_image) / 2, context.mask)
