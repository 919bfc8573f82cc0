"""What one step of a method has to say."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from meddistill.balancing.reported import Reported


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """The loss of one global batch and what the logs want to know of it.

    `total` is what is differentiated. `parts` are the objectives' losses before their weights λ. For each
    teacher: `teacher_losses`, the weighted sum of its objectives over the rows that count; `teacher_weights`,
    its mean weight over the rows that have a teacher; `agreement`, the mean cosine of the student's projected
    embeddings with its own over the rows where it is available; `agreement_rows`, the number of those rows, 0
    where no objective compares the two. What has no rows is 0. `reported` is what the weighting has to say
    besides. Everything but `total` is without gradient.
    """

    total: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]
    teacher_losses: Float[Tensor, " teachers"]
    teacher_weights: Float[Tensor, " teachers"]
    agreement: Float[Tensor, " teachers"]
    agreement_rows: Float[Tensor, " teachers"]
    reported: tuple[Reported, ...] = ()
