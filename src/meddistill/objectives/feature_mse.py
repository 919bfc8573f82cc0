"""Mean squared error between the student's and a teacher's embeddings."""

from functools import partial
from typing import final

from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.base import (
    Objective,
    RowContext,
    TowerPair,
    normalized,
    over_towers,
    tower_pairs,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@final
class FeatureMSE(Objective):
    """ℓ_i = 1/d ‖û_i − Û_i‖² + 1/d ‖v̂_i − V̂_i‖².

    û, v̂ are the student's image and text embeddings after the teacher's head, Û, V̂ the teacher's, all
    normalised; d is the teacher's dim. This is FD of CLIP-KD (Yang et al. 2024), weight 2000 there and 50 in
    MMKD-CLIP. The mean over d makes it small: it is (2 − 2 cos)/d for each tower, hence those weights.

    A teacher that lacks a tower of a row gives the other term alone. MMKD-CLIP's code leaves the targets as
    they were stored, un-normalised: `normalize_targets=False`.
    """

    def __init__(self, *, normalize_targets: bool = True) -> None:
        super().__init__()
        self.normalize_targets = normalize_targets

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, in [0, 8/d] with normalised targets; count 1 for each row with a tower."""
        pairs = tower_pairs(student, teacher, context.mask)
        return over_towers(pairs, partial(squared_error, normalize_targets=self.normalize_targets))


def squared_error(pair: TowerPair, *, normalize_targets: bool = True) -> Float[Tensor, " batch"]:
    """1/d ‖û − Û‖² of each row, the teacher's row as it is where `normalize_targets` is False."""
    target = normalized(pair.target) if normalize_targets else pair.target
    return (normalized(pair.ours) - target).square().mean(dim=-1)
