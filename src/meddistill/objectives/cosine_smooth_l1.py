"""Cosine distance plus smooth L1 between the student's and a teacher's embeddings."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from meddistill.errors import ConfigError
from meddistill.objectives.base import (
    Objective,
    RowContext,
    TowerPair,
    TowerStatistics,
    full_precision,
    normalized,
    over_towers,
    tower_pairs,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs
from meddistill.signals import Tower

_LEAST_STD = 1e-6
_LEAST_SHARE = 1e-6  # of the largest variance; what is below is rounding
Features = Literal["normalized", "standardized", "whitened"]


@final
class CosineSmoothL1(Objective):
    """ℓ_i = Σ_towers a (1 − cos(x_i, y_i)) + b · 1/d Σ_k smoothL1(x_ik − y_ik), a = b = ½.

    x is the student's embedding after the teacher's head, y the target, smoothL1(e) = ½e² for |e| < 1 and
    |e| − ½ beyond. The form of UNIC (Sariyildiz et al. 2024); Theia has a = 0.9, b = 0.1.

    `features` says what x and y are:
    - `whitened`: y = Λ_k^(-1/2) U_kᵀ (t − μ), x = U_kᵀ h, with h what the head gives, μ and U Λ Uᵀ the
      teacher's exact mean and covariance over the data that it is used for, and U_k the eigenvectors of
      the k largest variances; k is the student's dim, for a linear head reaches no more directions. In a
      pretrained encoder few directions hold most of the variance; here each counts alike. Needs
      `statistics` and `components` = k.
    - `standardized` (UNIC): y = (t − μ)/σ with the teacher's exact mean and standard deviation over the data
      that it is used for (UNIC estimates them by a moving average), x as the head gives it. Needs
      `statistics`.
    - `normalized`: both at unit norm; for smooth L1 times √d, so that a channel's size is about 1 and the
      bend of smoothL1 at 1 means something. Without √d the second term is the first divided by d.

    A teacher that lacks a tower of a row gives the other term alone.
    """

    def __init__(
        self,
        *,
        cosine: float = 0.5,
        smooth_l1: float = 0.5,
        features: Features = "normalized",
        statistics: Mapping[Tower, TowerStatistics] | None = None,
        components: int | None = None,
    ) -> None:
        """Raises ConfigError where `features` needs statistics and there are none."""
        super().__init__()
        self.cosine = cosine
        self.smooth_l1 = smooth_l1
        self.features = features
        if features == "normalized":
            return
        if not statistics:
            mistake = (
                f"`features: {features}` must come with the teacher's statistics; got none. "
                "Use `normalized`, or a feature store, which has them."
            )
            subject = "cosine_smooth_l1"
            raise ConfigError(subject, [mistake])
        for tower, values in statistics.items():
            self._keep(tower, values, components=components)

    def _keep(self, tower: Tower, values: TowerStatistics, *, components: int | None) -> None:
        # Not persistent: they belong to the feature store and stay out of checkpoints.
        self.register_buffer(f"{tower}_mean", full_precision(values.mean), persistent=False)
        if self.features == "whitened":
            basis, variances = _leading(values.covariance, components)
            self.register_buffer(f"{tower}_basis", basis, persistent=False)
        else:
            variances = values.covariance.diagonal()
        spread = variances.clamp_min(0).sqrt().clamp_min(_LEAST_STD).float()
        self.register_buffer(f"{tower}_std", spread, persistent=False)

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row, from 0; count 1 for each row with a tower."""
        return over_towers(self.compared(student, teacher, context.mask), self._distance)

    def compared(
        self, student: StudentOutputs, teacher: TeacherOutputs, mask: Bool[Tensor, " batch"]
    ) -> list[TowerPair]:
        """x and y, tower by tower."""
        pairs = tower_pairs(student, teacher, mask)
        if self.features != "normalized":
            # A tower without statistics is one of which the teacher has no row of the data.
            pairs = [pair for pair in pairs if hasattr(self, f"{pair.tower}_mean")]
        return [self._of(pair) for pair in pairs]

    def _distance(self, pair: TowerPair) -> Float[Tensor, " batch"]:
        distance = 1 - (normalized(pair.ours) * normalized(pair.target)).sum(dim=-1)
        error = functional.smooth_l1_loss(pair.ours, pair.target, reduction="none").mean(dim=-1)
        return self.cosine * distance + self.smooth_l1 * error

    def _of(self, pair: TowerPair) -> TowerPair:
        if self.features == "normalized":
            scale = math.sqrt(pair.target.shape[-1])
            return replace(pair, ours=scale * normalized(pair.ours), target=scale * normalized(pair.target))
        mean, std = self.get_buffer(f"{pair.tower}_mean"), self.get_buffer(f"{pair.tower}_std")
        ours, centred = full_precision(pair.ours), pair.target - mean
        if self.features == "whitened":
            basis = self.get_buffer(f"{pair.tower}_basis").to(centred.dtype)
            ours, centred = ours @ basis, centred @ basis
        return replace(pair, ours=ours, target=centred / std)


def _leading(
    covariance: Float[Tensor, "dim dim"], components: int | None
) -> tuple[Float[Tensor, "dim k"], Float[Tensor, " k"]]:
    """The eigenvectors of the largest variances, at most `components`, and those; none that is rounding."""
    values, vectors = torch.linalg.eigh(covariance.double())
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(int((values > _LEAST_SHARE * values[0]).sum()), 1)
    kept = min(rank, components or rank)
    return vectors[:, :kept].float().contiguous(), values[:kept]
