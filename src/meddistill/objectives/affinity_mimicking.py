"""Cross-entropy between the similarity distributions of a teacher and the student."""

from typing import ClassVar, Literal, final

from meddistill.objectives.base import Objective, RowContext, row_losses
from meddistill.objectives.similarities import row_expectation, similarities
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class AffinityMimicking(Objective):
    """ℓ_i = ½ [CE(p_i, q_i) over the batch's texts + CE(p'_i, q'_i) over its images].

    CE(p, q) = −Σ_j p_j log q_j. p_i = softmax_j(S·Û_i·V̂_j) is the teacher's distribution over the batch's
    texts for image i, q_i = softmax_j(s·û_i·v̂_j) the student's; p', q' the same from text i to the images. S
    is the teacher's own logit scale, or `teacher_scale` (50 in TinyCLIP's scripts), s the student's. Affinity
    mimicking of TinyCLIP (Wu et al. 2023). The student's own embeddings enter: no head is needed, and the
    dims may differ.

    CE(p, q) = KL(p ‖ q) + H(p), and the teacher's entropy H(p) does not depend on the student: this is
    `similarity_kl` plus a constant, with the same gradients. They differ where the *value* of a loss counts:
    in logs, and in weightings that look at losses. Here a teacher that is sure of its similarities has the
    smaller loss; there every teacher that is perfectly imitated has loss 0.

    As in `similarity_kl`, `context.positives` is not used: nothing here calls an equal caption a negative.
    """

    space: ClassVar[Literal["teacher", "own"]] = "own"

    def __init__(self, *, teacher_scale: float | None = None) -> None:
        super().__init__()
        self.teacher_scale = teacher_scale

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from the teacher's entropy; count 1 for each row of the mask.

        Raises TeacherError where the teacher has no text tower, or neither a logit scale nor `teacher_scale`.
        """
        directions = similarities(
            student, teacher, context, teacher_scale=self.teacher_scale, objective="affinity_mimicking"
        )
        to_texts, to_images = (
            row_expectation(each.teacher, -each.student, context.mask) for each in directions
        )
        return row_losses((to_texts + to_images) / 2, context.mask)
