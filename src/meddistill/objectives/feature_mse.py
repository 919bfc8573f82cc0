"""Mean squared error between the student's and a teacher's embeddings."""

from typing import final

from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.objectives.base import Objective, RowContext, normalised, row_losses, target_rows
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class FeatureMSE(Objective):
    """ℓ_i = 1/d ‖û_i − Û_i‖² + 1/d ‖v̂_i − V̂_i‖².

    û, v̂ are the student's image and text embeddings after the teacher's head, Û, V̂ the teacher's, all
    normalised; d is the teacher's dim. This is FD of CLIP-KD (Yang et al. 2024), weight 2000 there and 50 in
    MMKD-CLIP. The mean over d makes it small: it is (2 − 2 cos)/d for each tower, hence those weights.

    A teacher without a text tower gives the image term alone. MMKD-CLIP's code leaves the targets as they
    were stored, un-normalised: `normalise_targets=False`.
    """

    def __init__(self, *, normalise_targets: bool = True) -> None:
        super().__init__()
        self.normalise_targets = normalise_targets

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, in [0, 8/d] with normalised targets; count 1 for each row of the mask."""
        total = student.image.new_zeros(len(context.mask))
        for ours, theirs in ((student.image, teacher.image), (student.text, teacher.text)):
            if theirs is not None:
                total = total + squared_error(
                    ours, theirs, context.mask, normalise_targets=self.normalise_targets
                )
        return row_losses(total, context.mask)


def squared_error(
    ours: Float[Tensor, "batch dim"],
    theirs: Float[Tensor, "batch dim"],
    mask: Bool[Tensor, " batch"],
    *,
    normalise_targets: bool = True,
) -> Float[Tensor, " batch"]:
    """1/d ‖û − Û‖² of each row of the mask, the teacher's row as it is where `normalise_targets` is False."""
    target = target_rows(theirs, mask)
    target = normalised(target) if normalise_targets else target
    return (normalised(ours) - target).square().mean(dim=-1)
