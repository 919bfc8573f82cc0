"""Kullback-Leibler divergence between teacher and student of an image's similarities to class vectors."""

from typing import Final, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from meddistill.errors import TeacherError
from meddistill.objectives.base import (
    Objective,
    RowContext,
    TowerPair,
    both_towers,
    masked_log_softmax,
    normalized,
    row_losses,
    target_rows,
    tower_pairs,
)
from meddistill.objectives.feature_queue import FeatureQueue
from meddistill.objectives.similarities import teacher_scale_of
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs

# Logits that are held at once, 64 MB in float32; of a larger batch and bank they are made again backward.
_LOGITS_AT_ONCE: Final = 2**24


@final
class ClassVectorKL(Objective):
    """ℓ_i = T²·KL(softmax(S·Û_i Wᵀ/T) ‖ softmax(s·û_i Wᵀ/T)) over the class vectors W.

    Û_i is the teacher's image embedding at unit length, û_i the student's after the teacher's head, also at
    unit length; W `[texts, dim]` are the teacher's features of texts at unit length, in the same space. S is
    the teacher's own logit scale (or `teacher_scale`), s the student's, T the `temperature` (Hinton et al.
    2015: T² keeps the gradient's size). Neither the teacher's text tower nor the student's is asked: W comes
    from the feature store. PromptKD (Li et al. 2024) has this with the names of classes; AMMKD (2025) with
    stored text features as class vectors, whose exact form is not published.

    W are by `negatives`

    - `batch`: the texts of the rows of the mask of which the teacher has both towers;
    - `bank`: the features of fixed texts, `bank` `[texts, dim]`. Rows need no caption. They are a buffer that
      is in no checkpoint;
    - `queue`: as `batch`, then the last `queue_size` such texts of earlier batches. They are a buffer that a
      checkpoint has. They enter after the update, once for every row, and so are the same in every process
      and for any micro-batches.

    The target is the teacher's distribution, so no text is called a negative because it stands in another
    row: equal texts are equal columns for both, and count as often as they stand there. `context.positives`
    is not used. With a projection other than the learned head, W passes through the same map as the images.
    """

    def __init__(
        self,
        *,
        negatives: Literal["batch", "bank", "queue"] = "batch",
        bank: Float[Tensor, "texts dim"] | None = None,
        queue_size: int | None = None,
        dim: int | None = None,
        temperature: float = 1.0,
        teacher_scale: float | None = None,
    ) -> None:
        """`bank` for `negatives: bank`; `queue_size` and the `dim` of the space for `negatives: queue`.

        Raises TeacherError where these are missing, or given for others.
        """
        super().__init__()
        self.negatives = negatives
        self.temperature = temperature
        self.teacher_scale = teacher_scale
        self.bank: Tensor | None
        self.register_buffer("bank", None if bank is None else normalized(bank), persistent=False)
        self.queue = None if queue_size is None or dim is None else FeatureQueue(queue_size, dim)
        kept = {"bank": self.bank, "queue": self.queue}
        if any((each is None) == (negatives == kind) for kind, each in kept.items()):
            msg = (
                "`bank` must be given for `negatives: bank` and only there, `queue_size` and `dim` for "
                f"`negatives: queue`; got `negatives: {negatives}`. Give what belongs to it."
            )
            raise TeacherError(msg)
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        """Loss per row in nats, from 0; count 1 for each row of the mask with an image.

        But for `negatives: bank` also with a text. Raises TeacherError where the teacher lacks a tower that
        is needed, or has neither a logit scale nor `teacher_scale`.
        """
        scale = teacher_scale_of(teacher, self.teacher_scale, objective="class_vector_kl")
        image, mask, vectors, kept = self._sides(teacher, context.mask)
        divergences = _by_rows(
            normalized(image) * (scale / self.temperature),
            normalized(student.image) * (student.logit_scale / self.temperature),
            vectors,
            kept,
        )
        return row_losses(self.temperature**2 * divergences, mask)

    def compared(
        self, student: StudentOutputs, teacher: TeacherOutputs, mask: Bool[Tensor, " batch"]
    ) -> list[TowerPair]:
        """The images alone."""
        return [pair for pair in tower_pairs(student, teacher, mask) if pair.tower == "image"]

    def after_update(self) -> None:
        """Let the batch's texts into the queue."""
        if self.queue is not None and self._seen is not None:
            self.queue.push(*self._seen)
            self._seen = None

    def _sides(self, teacher: TeacherOutputs, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The teacher's images and their rows, the class vectors, and which of these there are."""
        if self.bank is not None:
            if "image" not in teacher.towers:
                msg = (
                    "`class_vector_kl` must have teachers with an image tower; got one without image "
                    "embeddings. Leave that teacher or the objective out."
                )
                raise TeacherError(msg)
            rows = mask & teacher.towers["image"][1]
            image = target_rows(teacher.towers["image"][0], rows)
            return image, rows, self.bank.to(image.dtype), rows.new_ones(len(self.bank))
        image, text, both = both_towers(teacher, mask, objective="class_vector_kl")
        texts = normalized(text)
        if self.queue is None:
            return image, both, texts, both
        self._seen = texts, both
        vectors = torch.cat([texts, self.queue.vectors.to(texts.dtype)])
        return image, both, vectors, torch.cat([both, self.queue.filled])


def _by_rows(
    theirs: Float[Tensor, "batch dim"],
    ours: Float[Tensor, "batch dim"],
    vectors: Float[Tensor, "texts dim"],
    kept: Bool[Tensor, " texts"],
) -> Float[Tensor, " batch"]:
    """`_divergence` of all rows, of so many at once that their logits fit."""
    rows = max(1, _LOGITS_AT_ONCE // len(vectors))
    if rows >= len(ours):
        return _divergence(theirs, ours, vectors, kept)
    parts = [
        checkpoint(_divergence, *pair, vectors, kept, use_reentrant=False, preserve_rng_state=False)
        for pair in zip(theirs.split(rows), ours.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _divergence(
    theirs: Float[Tensor, "rows dim"],
    ours: Float[Tensor, "rows dim"],
    vectors: Float[Tensor, "texts dim"],
    kept: Bool[Tensor, " texts"],
) -> Float[Tensor, " rows"]:
    """KL(softmax(theirs·Wᵀ) ‖ softmax(ours·Wᵀ)) over the vectors that are kept."""
    target = masked_log_softmax(theirs @ vectors.T, kept)
    differences = target - masked_log_softmax(ours @ vectors.T, kept)
    return (target.exp() * differences).masked_fill(~kept[None, :], 0.0).sum(dim=-1)
