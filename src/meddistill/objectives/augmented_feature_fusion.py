"""The contrastive loss of embeddings that are fused from the student's and a teacher's."""

import math
from dataclasses import replace
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.objectives.base import (
    Objective,
    RowContext,
    both_towers,
    multi_positive_cross_entropy,
    normalized,
    row_losses,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs

_INITIAL_LOG_SCALE = math.log(1 / 0.07)
_MAX_LOG_SCALE = math.log(100)


@final
class AugmentedFeatureFusion(Objective):
    """ℓ_i = ½ [CE(c·f_i Gᵀ, y_i) + CE(c·g_i Fᵀ, y_i)].

    f_i = norm(A [û_i; Û_i] + a) and g_i = norm(B [v̂_i; V̂_i] + b) are the fused image and text, F and G all
    of them over the rows of the mask; û, v̂ are the student's own normalised embeddings, Û, V̂ the teacher's,
    y_i is uniform over the rows with row i's image or caption. A and B, of shape (student_dim, student_dim +
    teacher_dim), are learnt with the student and thrown away after training. AFD of CLIP-KD (Yang et al.
    2024): the student is to know what helps the teacher's embedding.

    c = exp(κ) is a scale of the fused pair's own, κ learnt from ln(1/0.07) on within [0, ln 100], as the
    student's is. The student's own scale would be drawn to what suits pairs that already hold the teacher's
    answer. CLIP-KD learns a scale for the pair too, but uses it without the exponential.

    The layers depend on `seed` and the dims alone.
    """

    space: ClassVar[Literal["teacher", "own"]] = "own"

    def __init__(self, *, student_dim: int, teacher_dim: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image = nn.Linear(student_dim + teacher_dim, student_dim)
            self.text = nn.Linear(student_dim + teacher_dim, student_dim)
        self.log_scale = nn.Parameter(torch.tensor(_INITIAL_LOG_SCALE))

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask with both towers.

        Raises TeacherError where the teacher lacks a tower.
        """
        image, text, mask = both_towers(teacher, context.mask, objective="augmented_feature_fusion")
        context = replace(context, mask=mask)
        images = _fused(self.image, student.image, image)
        texts = _fused(self.text, student.text, text)
        logits = self.log_scale.exp().to(images.dtype) * images @ texts.T
        image_to_text = multi_positive_cross_entropy(logits, context)
        text_to_image = multi_positive_cross_entropy(logits.T, context)
        return row_losses((image_to_text + text_to_image) / 2, mask)

    @torch.no_grad()
    def after_update(self) -> None:
        """Keep κ in its range."""
        self.log_scale.clamp_(0.0, _MAX_LOG_SCALE)


def _fused(
    layer: nn.Linear, ours: Float[Tensor, "batch student_dim"], theirs: Float[Tensor, "batch teacher_dim"]
) -> Float[Tensor, "batch student_dim"]:
    both = torch.cat([normalized(ours), normalized(theirs)], dim=-1)
    weight, bias = layer.weight.to(both.dtype), layer.bias.to(both.dtype)
    return normalized(functional.linear(both, weight, bias))
