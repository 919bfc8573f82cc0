"""The batch's image-text similarities of a teacher and of the student, as logits and as distributions."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.errors import TeacherError
from meddistill.objectives.base import (
    Objective,
    RowContext,
    both_towers,
    masked_log_softmax,
    normalized,
    row_losses,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@dataclass(frozen=True, kw_only=True)
class Similarities:
    """Log-softmax of each row's logits over the batch, in one direction.

    `teacher`, without gradient, is log p, `student` is log q. `mask` are the rows of which the teacher has
    both towers; columns that it leaves out are meaningless.
    """

    teacher: Float[Tensor, "batch batch"]
    student: Float[Tensor, "batch batch"]
    mask: Bool[Tensor, " batch"]


def teacher_scale_of(teacher: TeacherOutputs, given: float | None, *, objective: str) -> float:
    """The factor before the teacher's cosines: `given`, or the teacher's own logit scale.

    Raises TeacherError where there is neither.
    """
    scale = given if given is not None else teacher.logit_scale
    if scale is None:
        msg = (
            f"`teacher_scale` of {objective} must be given for a teacher without logit scale; got none. "
            "Set it, for example to 100."
        )
        raise TeacherError(msg)
    return scale


def similarities(
    student: StudentOutputs,
    teacher: TeacherOutputs,
    context: RowContext,
    *,
    teacher_scale: float | None,
    temperature: float = 1.0,
    objective: str,
) -> tuple[Similarities, Similarities]:
    """Of each image over the batch's texts, and of each text over its images.

    Logits are S·Û_i·V̂_j/T and s·û_i·v̂_j/T. Raises TeacherError where the teacher lacks a tower or a scale.
    """
    image, text, mask = both_towers(teacher, context.mask, objective=objective)
    scale = teacher_scale_of(teacher, teacher_scale, objective=objective)
    theirs = scale / temperature * normalized(image) @ normalized(text).T
    ours = student.logit_scale / temperature * normalized(student.image) @ normalized(student.text).T
    return _distributions(theirs, ours, mask), _distributions(theirs.T, ours.T, mask)


def _distributions(theirs: Tensor, ours: Tensor, mask: Tensor) -> Similarities:
    return Similarities(
        teacher=masked_log_softmax(theirs, mask), student=masked_log_softmax(ours, mask), mask=mask
    )


def merged(each: Similarities, positives: Bool[Tensor, "batch batch"]) -> Similarities:
    """log Σ_{k in P(i)} p_ik, and the same of q, in the columns of P(i), the positives of row i in the mask.

    Other columns stay as they are.
    """
    groups = positives & each.mask[None, :]

    def masses(values: Float[Tensor, "batch batch"]) -> Float[Tensor, "batch batch"]:
        lowest = torch.finfo(values.dtype).min / 2  # as in `masked_log_softmax`
        together = values.masked_fill(~groups, lowest).logsumexp(dim=-1, keepdim=True)
        return torch.where(groups, together, values)

    return Similarities(teacher=masses(each.teacher), student=masses(each.student), mask=each.mask)


def row_expectation(each: Similarities, values: Float[Tensor, "batch batch"]) -> Float[Tensor, " batch"]:
    """Σ_j p_ij·values_ij over the columns of the mask."""
    return (each.teacher.exp() * values).masked_fill(~each.mask[None, :], 0.0).sum(dim=-1)


class SimilarityObjective(Objective):
    """ℓ_i = ½·T² [E_{j ~ p_i} cost_ij over the batch's texts + E_{j ~ p'_i} cost'_ij over its images].

    p, p' are the teacher's distributions of `similarities` at temperature T; a subclass says what `cost` is.
    The gradient of a softmax's logits goes with 1/T², which T² takes back (Hinton et al. 2015). The student's
    own embeddings enter: no head is needed, and the dims may differ.

    With `merge_positives` the columns P(i) with row i's image or caption are one event, of probability
    Σ_{j in P(i)} p_ij for the teacher and Σ_{j in P(i)} q_ij for the student: of a loss that is a divergence
    or cross-entropy, what is left is that of the distributions over this event and the other columns.
    """

    space: ClassVar[Literal["teacher", "own"]] = "own"
    name: ClassVar[str]

    def __init__(
        self,
        *,
        teacher_scale: float | None = None,
        temperature: float = 1.0,
        merge_positives: bool = False,
    ) -> None:
        super().__init__()
        self.teacher_scale = teacher_scale
        self.temperature = temperature
        self.merge_positives = merge_positives

    @abstractmethod
    def cost(self, each: Similarities) -> Float[Tensor, "batch batch"]:
        """What a row pays for each column, in nats."""

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask with both towers.

        Raises TeacherError where the teacher has no text tower, or neither a logit scale nor `teacher_scale`.
        """
        directions = similarities(
            student,
            teacher,
            context,
            teacher_scale=self.teacher_scale,
            temperature=self.temperature,
            objective=self.name,
        )
        to_texts, to_images = (row_expectation(each, self._cost(each, context)) for each in directions)
        return row_losses(self.temperature**2 * (to_texts + to_images) / 2, directions[0].mask)

    def _cost(self, each: Similarities, context: RowContext) -> Float[Tensor, "batch batch"]:
        return self.cost(merged(each, context.positives) if self.merge_positives else each)
