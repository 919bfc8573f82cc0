"""Kullback-Leibler divergence between the similarity distributions of a teacher and the student."""

from typing import ClassVar, Literal, final

from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.errors import TeacherError
from meddistill.objectives.base import (
    Objective,
    RowContext,
    both_towers,
    masked_log_softmax,
    normalised,
    row_losses,
    target_rows,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class SimilarityKL(Objective):
    """ℓ_i = ½ [KL(p_i ‖ q_i) over the batch's texts + KL(p'_i ‖ q'_i) over its images].

    p_i = softmax_j(S·Û_i·V̂_j) is the teacher's distribution over the batch's texts for image i, q_i =
    softmax_j(s·û_i·v̂_j) the student's; p', q' the same from text i to the images. S is the teacher's own
    logit scale (or `teacher_scale`), s the student's. CRD of CLIP-KD (Yang et al. 2024); the cross-entropy
    form without the teacher's entropy is TinyCLIP's affinity mimicking. The student's own embeddings enter:
    no head is needed, and the dims may differ.

    Equal captions. The target is the teacher's distribution, so there is no diagonal that could call an equal
    caption a negative, and `context.positives` is not used. A caption that stands m times has m equal columns
    in p and in q; within such a group both are uniform, so by the chain rule the divergence is exactly that
    of the distributions over distinct captions, each weighted by its number of copies: frequent captions
    count more, none counts wrongly. Equal images are equal columns for the teacher alone if the student sees
    other views of them; then the student is asked to score all views alike, which is meant.
    """

    space: ClassVar[Literal["teacher", "own"]] = "own"

    def __init__(self, *, teacher_scale: float | None = None) -> None:
        super().__init__()
        self.teacher_scale = teacher_scale

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask.

        Raises TeacherError where the teacher has no text tower, or neither a logit scale nor `teacher_scale`.
        """
        image, text = both_towers(teacher, "similarity_kl")
        scale = self.teacher_scale if self.teacher_scale is not None else teacher.logit_scale
        if scale is None:
            msg = (
                "`teacher_scale` of similarity_kl must be given for a teacher without logit scale; got none. "
                "Set it, for example to 100."
            )
            raise TeacherError(msg)
        target_image = normalised(target_rows(image, context.mask))
        target_text = normalised(target_rows(text, context.mask))
        theirs = scale * target_image @ target_text.T
        ours = student.logit_scale * normalised(student.image) @ normalised(student.text).T
        to_texts = _divergence(theirs, ours, context.mask)
        to_images = _divergence(theirs.T, ours.T, context.mask)
        return row_losses((to_texts + to_images) / 2, context.mask)


def _divergence(
    theirs: Float[Tensor, "batch batch"], ours: Float[Tensor, "batch batch"], mask: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    log_p, log_q = masked_log_softmax(theirs, mask), masked_log_softmax(ours, mask)
    terms = (log_p.exp() * (log_p - log_q)).masked_fill(~mask[None, :], 0.0)
    return terms.sum(dim=-1)
