"""What a weighting may look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meddistill.balancing.reported import Reported, gradient_report


@final
@dataclass(frozen=True, kw_only=True)
class TeacherQueries:
    """What the teachers can be asked of a global batch, beyond the student's losses against them.

    `own_losses(scale)` gives each teacher's contrastive loss on its own embeddings, per row, without
    gradient; `scale` stands in for the teachers' own logit scales. `images()` gives the teachers' image
    embeddings, zeros for rows that a teacher does not have.
    """

    own_losses: Callable[[float | None], Float[Tensor, "batch teachers"]]
    images: Callable[[], Sequence[Float[Tensor, "batch teacher_dim"]]]


@final
@dataclass(frozen=True, kw_only=True)
class BalancingContext:
    """What is known of one global batch once its losses are, and what can be asked for at a cost.

    `teachers`: their names. `losses`: each row's weighted sum of objectives against each teacher, without
    gradient; 0 where not selected. `selected`: which teachers count for a row. `groups`: the number of each
    row's group, from 0. `generator`: on the CPU, seeded by (seed, step), the same in every process.
    `embeddings`: the student's, for the whole batch, where gradients are taken.

    `teacher_losses()` gives one loss a teacher, the mean over its selected rows, with gradient; 0 without
    rows. `queries` asks the teachers.

    `reported` takes what a rule has to say of the batch for the log. Gradients that were asked for are there.
    """

    teachers: tuple[str, ...]
    losses: Float[Tensor, "batch teachers"]
    selected: Bool[Tensor, "batch teachers"]
    groups: Int[Tensor, " batch"]
    generator: torch.Generator
    embeddings: tuple[Float[Tensor, "batch dim"], ...]
    teacher_losses: Callable[[], Sequence[Float[Tensor, ""]]]
    queries: TeacherQueries
    reported: list[Reported] = field(default_factory=list)

    @cached_property
    def mean_losses(self) -> Float[Tensor, " teachers"]:
        """`teacher_losses` as numbers, without gradient."""
        return torch.stack([*self.teacher_losses()]).detach()

    def gramian(self) -> Float[Tensor, "teachers teachers"]:
        """G = J·Jᵀ in float64, where row t of J is ∂ℓ_t/∂(student's embeddings), flattened; ℓ_t is teacher
        t's loss.

        One backward pass a teacher through heads and objectives; no tower is run. A teacher without selected
        rows has a row and a column of zeros. Sener and Koltun (2018, section 3.3) show that the norm of these
        gradients bounds that of the gradients over the parameters behind.
        """
        parts = [each.flatten(start_dim=1) for each in self._jacobian]
        return self._report(torch.stack([part @ part.T for part in parts]).sum(dim=0))

    def gramians(self, members: Float[Tensor, "groups batch"]) -> Float[Tensor, "groups teachers teachers"]:
        """`gramian` for each group of rows, from the same gradients cut by rows; they sum to the whole one.

        `members`: 1 for the rows of a group, 0 for others.
        """
        rows = torch.stack([torch.einsum("tbd,sbd->bts", each, each) for each in self._jacobian]).sum(dim=0)
        # A product and no scattered sum, whose order is another in every process.
        gramians = (members.to(rows.dtype) @ rows.flatten(start_dim=1)).unflatten(1, rows.shape[1:])
        self._report(gramians.sum(dim=0))
        return gramians

    def _report(self, gramian: Float[Tensor, "teachers teachers"]) -> Float[Tensor, "teachers teachers"]:
        self.reported.append(gradient_report(gramian, self.selected.any(dim=0), teachers=self.teachers))
        return gramian

    @cached_property
    def _jacobian(self) -> tuple[Float[Tensor, "teachers batch dim"], ...]:
        """For each of the embeddings the gradients of all teachers there, in float64."""
        gradients = [
            torch.autograd.grad(
                loss, self.embeddings, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for loss in self.teacher_losses()
        ]
        return tuple(torch.stack(each).double() for each in zip(*gradients, strict=True))
