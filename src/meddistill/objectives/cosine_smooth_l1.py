"""Cosine distance plus smooth L1 between the student's and a teacher's embeddings."""

import math
from collections.abc import Mapping
from typing import Literal, final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from meddistill.errors import ConfigError
from meddistill.objectives.base import (
    Objective,
    RowContext,
    TowerPair,
    TowerStatistics,
    full_precision,
    normalised,
    over_towers,
    tower_pairs,
)
from meddistill.objectives.config import Tower
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs

_LEAST_STD = 1e-6


@final
class CosineSmoothL1(Objective):
    """ℓ_i = Σ_towers a (1 − cos(x_i, y_i)) + b · 1/d Σ_k smoothL1(x_ik − y_ik), a = b = ½.

    x is the student's embedding after the teacher's head, y the target, smoothL1(e) = ½e² for |e| < 1 and
    |e| − ½ beyond. The form of UNIC (Sariyildiz et al. 2024); Theia has a = 0.9, b = 0.1.

    `features` says what x and y are:
    - `standardised` (UNIC): y = (t − μ)/σ with the teacher's exact mean and standard deviation over the data
      that it is asked about (UNIC estimates them by a moving average), x as the head gives it. Needs
      `statistics`.
    - `normalised`: both at unit norm; for smooth L1 times √d, so that a channel's size is about 1 and the
      bend of smoothL1 at 1 means something. Without √d the second term is the first divided by d.

    A teacher that lacks a tower of a row gives the other term alone.
    """

    def __init__(
        self,
        *,
        cosine: float = 0.5,
        smooth_l1: float = 0.5,
        features: Literal["normalised", "standardised"] = "normalised",
        statistics: Mapping[Tower, TowerStatistics] | None = None,
    ) -> None:
        super().__init__()
        self.cosine = cosine
        self.smooth_l1 = smooth_l1
        self.features = features
        if features == "standardised":
            self._keep(statistics)

    def _keep(self, statistics: Mapping[Tower, TowerStatistics] | None) -> None:
        if not statistics:
            mistake = (
                "`features: standardised` must come with the teacher's statistics; got none. "
                "Use `normalised`, or a feature store, which has them."
            )
            subject = "cosine_smooth_l1"
            raise ConfigError(subject, [mistake])
        # Not persistent: they belong to the feature store and stay out of checkpoints.
        for tower, values in statistics.items():
            self.register_buffer(f"{tower}_mean", full_precision(values.mean), persistent=False)
            spread = full_precision(values.std).clamp_min(_LEAST_STD)
            self.register_buffer(f"{tower}_std", spread, persistent=False)

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, from 0; count 1 for each row with a tower."""
        pairs = tower_pairs(student, teacher, context.mask)
        if self.features == "standardised":
            # A tower without statistics is one of which the teacher has no row of the data.
            pairs = [pair for pair in pairs if hasattr(self, f"{pair.tower}_mean")]
        return over_towers(pairs, self._distance)

    def _distance(self, pair: TowerPair) -> Float[Tensor, " batch"]:
        if self.features == "standardised":
            mean, std = self.get_buffer(f"{pair.tower}_mean"), self.get_buffer(f"{pair.tower}_std")
            ours, target = full_precision(pair.ours), (pair.target - mean) / std
        else:
            scale = math.sqrt(pair.target.shape[-1])
            ours, target = scale * normalised(pair.ours), scale * normalised(pair.target)
        distance = 1 - (normalised(ours) * normalised(target)).sum(dim=-1)
        error = functional.smooth_l1_loss(ours, target, reduction="none").mean(dim=-1)
        return self.cosine * distance + self.smooth_l1 * error
