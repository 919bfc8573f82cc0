"""What every objective is, and the masked softmax arithmetic that several of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.errors import TeacherError
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """Which rows count (`mask`), and which pairs of rows are positives of one another (`positives`).

    `positives` is symmetric with a True diagonal: rows with equal captions or equal images.
    """

    mask: Bool[Tensor, " batch"]
    positives: Bool[Tensor, "batch batch"]


@dataclass(frozen=True, kw_only=True)
class TowerStatistics:
    """Mean and covariance of what one tower of a teacher gives over the data."""

    mean: Float[Tensor, " teacher_dim"]
    covariance: Float[Tensor, "teacher_dim teacher_dim"]


class StudentObjective(nn.Module, ABC):
    """An objective that needs no teacher."""

    @abstractmethod
    def forward(self, student: StudentOutputs, context: RowContext) -> RowLosses:
        """Loss and denominator per row; both zero where `context.mask` is False."""


class Objective(nn.Module, ABC):
    """The student against one teacher.

    `space` says which student embeddings `forward` takes: projected by the teacher's head (`teacher`), or
    the student's `own`. With options that mix teachers it is called once for all of them instead of once for
    each, on rows of which every one is of the teacher drawn for it.
    """

    space: ClassVar[Literal["teacher", "own"]] = "teacher"

    @abstractmethod
    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss and denominator per row; both zero where `context.mask` is False.

        A masked row takes part in nothing: not as a target, not as a negative, not in a gradient. Nor does a
        row of a tower for which the teacher is not available: an objective that needs both towers masks the
        row, any other leaves out that tower's term.
        """

    def compared(
        self, student: StudentOutputs, teacher: TeacherOutputs, mask: Bool[Tensor, " batch"]
    ) -> list["TowerPair"]:
        """What it brings together, tower by tower; rows without `mask` hold anything."""
        return tower_pairs(student, teacher, mask)

    def after_update(self) -> None:
        """Bring parameters of its own back into their range; called after every update."""


def full_precision(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`values` in float32, or unchanged where they are float64."""
    return values if values.dtype == torch.float64 else values.float()


def normalized(rows: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """Rows divided by their L2 norm, in float32 or better; zero rows stay zero."""
    return functional.normalize(full_precision(rows), dim=-1)


def target_rows(rows: Float[Tensor, "batch dim"], mask: Bool[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
    """A teacher's rows without gradient, zero where the mask is False, whatever stood there."""
    return torch.where(mask[:, None], full_precision(rows.detach()), 0.0)


def row_losses(total: Float[Tensor, " batch"], mask: Bool[Tensor, " batch"]) -> RowLosses:
    """Losses that count one for each row of the mask, and zero for the others."""
    return RowLosses(total=torch.where(mask, total, 0.0), count=mask.to(total.dtype))


def masked_log_softmax(
    logits: Float[Tensor, "batch columns"], mask: Bool[Tensor, " columns"]
) -> Float[Tensor, "batch columns"]:
    """Log-softmax over the columns that the mask keeps. What it gives elsewhere is finite and meaningless.

    Left-out columns get a finite lowest value, not minus infinity: a row without any column left would give
    NaN, and NaN times a zero mask is NaN in the gradient. Halved, so that subtracting a logit cannot
    overflow.
    """
    lowest = torch.finfo(logits.dtype).min / 2
    return functional.log_softmax(logits.masked_fill(~mask[None, :], lowest), dim=-1)


def multi_positive_cross_entropy(
    logits: Float[Tensor, "batch batch"], context: RowContext
) -> Float[Tensor, " batch"]:
    """-1/|P(i)| Σ_{j in P(i)} log softmax_j(logits_i), over the rows and columns of the mask.

    P(i) are the positives of row i that the mask keeps. The target is uniform over them, as in UniCL (Yang et
    al. 2022) and in the `out` form of SupCon (Khosla et al. 2020, equation 2). With the diagonal as
    the only positive it is CLIP's cross entropy.
    """
    log_probability = masked_log_softmax(logits, context.mask)
    return -(multi_positive_targets(context, dtype=logits.dtype) * log_probability).sum(dim=-1)


def multi_positive_targets(context: RowContext, *, dtype: torch.dtype) -> Float[Tensor, "batch batch"]:
    """1/|P(i)| in the columns of P(i), the positives of row i that the mask keeps, and 0 elsewhere."""
    targets = (context.positives & context.mask[None, :]).to(dtype)
    return targets / targets.sum(dim=-1, keepdim=True).clamp_min(1)


def diagonal_only(context: RowContext) -> RowContext:
    """The same rows with each row its own only positive, as published losses have it."""
    own = torch.eye(len(context.mask), dtype=torch.bool, device=context.mask.device)
    return RowContext(mask=context.mask, positives=own)


@dataclass(frozen=True, kw_only=True)
class TowerPair:
    """The student's embeddings and a teacher's of one tower, `image` or `text`, of the rows of `mask`.

    `target` is without gradient, and zero in the other rows.
    """

    tower: str
    ours: Float[Tensor, "batch dim"]
    target: Float[Tensor, "batch dim"]
    mask: Bool[Tensor, " batch"]


def tower_pairs(
    student: StudentOutputs, teacher: TeacherOutputs, mask: Bool[Tensor, " batch"]
) -> list[TowerPair]:
    """The towers that the teacher has, each with the rows of `mask` of which it has that tower."""
    ours = {"image": student.image, "text": student.text}
    pairs = []
    for tower, (theirs, available) in teacher.towers.items():
        there = mask & available
        pairs.append(TowerPair(tower=tower, ours=ours[tower], target=target_rows(theirs, there), mask=there))
    return pairs


def over_towers(
    pairs: Sequence[TowerPair],
    distance: Callable[[TowerPair], Float[Tensor, " batch"]],
) -> RowLosses:
    """Σ_towers `distance`, over the towers that each row has; count 1 for each row with one at least."""
    total = torch.stack([torch.where(pair.mask, distance(pair), 0.0) for pair in pairs]).sum(dim=0)
    return row_losses(total, torch.stack([pair.mask for pair in pairs]).any(dim=0))


def both_towers(
    teacher: TeacherOutputs, mask: Bool[Tensor, " batch"], *, objective: str
) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
    """The teacher's image and text embeddings, and the rows of `mask` of which it has both.

    As `target_rows` gives them: zero in the other rows. Raises TeacherError where the teacher lacks a tower.
    """
    missing = [tower for tower in ("image", "text") if tower not in teacher.towers]
    if missing:
        msg = (
            f"`{objective}` must have teachers with an image and a text tower; "
            f"got one without {missing[0]} embeddings. Leave that teacher or the objective out."
        )
        raise TeacherError(msg)
    (image, with_image), (text, with_text) = teacher.towers["image"], teacher.towers["text"]
    both = mask & with_image & with_text
    return target_rows(image, both), target_rows(text, both), both
