"""Mean squared error between a teacher's embeddings and the student's of images with most patches masked."""

from dataclasses import replace
from typing import final

from meddistill.objectives.base import Objective, RowContext, over_towers, tower_pairs
from meddistill.objectives.config import MASKED
from meddistill.objectives.feature_mse import squared_error
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class MaskedFeatureDistillation(Objective):
    """ℓ_i = 1/d ‖ũ_i − Û_i‖² + 1/d ‖v̂_i − V̂_i‖².

    ũ is the student's normalised embedding, after the teacher's head, of the image with a share of its
    patches masked, which takes a second pass through the image tower; v̂ is that of the whole caption, Û, V̂
    the teacher's of the whole image and caption, d its dim. MFD of CLIP-KD (Yang et al. 2024): 75 % masked,
    weight 2000. With an unmasked image it is `feature_mse`.

    CLIP-KD drops the masked tokens, which only a vision transformer can do. Here masked patches show the mean
    colour, zero after normalisation, so that any tower can take part, at the cost of a whole pass. (In
    CLIP-KD's released code the masked embeddings are overwritten by the unmasked ones before they are used,
    so that its MFD is its FD.)

    A teacher that lacks a tower of a row gives the other term alone.
    """

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, in [0, 8/d]; count 1 for each row with a tower."""
        if MASKED not in student.passes:
            msg = f"`passes` must have `{MASKED}` for masked_feature_distillation; got none."
            raise ValueError(msg)
        masked = replace(student, image=student.passes[MASKED])
        return over_towers(tower_pairs(masked, teacher, context.mask), squared_error)
