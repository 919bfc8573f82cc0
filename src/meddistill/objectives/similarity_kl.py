"""Kullback-Leibler divergence between the similarity distributions of a teacher and the student."""

from typing import ClassVar, Literal, final

from meddistill.objectives.base import Objective, RowContext, row_losses
from meddistill.objectives.similarities import row_expectation, similarities
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class SimilarityKL(Objective):
    """ℓ_i = ½ [KL(p_i ‖ q_i) over the batch's texts + KL(p'_i ‖ q'_i) over its images].

    p_i = softmax_j(S·Û_i·V̂_j) is the teacher's distribution over the batch's texts for image i, q_i =
    softmax_j(s·û_i·v̂_j) the student's; p', q' the same from text i to the images. S is the teacher's own
    logit scale (or `teacher_scale`), s the student's. CRD of CLIP-KD (Yang et al. 2024); TinyCLIP's
    cross-entropy, which is this plus the teacher's entropy, is `affinity_mimicking`. The student's own
    embeddings enter: no head is needed, and the dims may differ.

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
        directions = similarities(
            student, teacher, context, teacher_scale=self.teacher_scale, objective="similarity_kl"
        )
        to_texts, to_images = (
            row_expectation(each.teacher, each.teacher - each.student, context.mask) for each in directions
        )
        return row_losses((to_texts + to_images) / 2, context.mask)
