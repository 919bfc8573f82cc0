"""What a weighting may look at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@final
@dataclass(frozen=True, kw_only=True)
class BalancingContext:
    """What is known of one global batch once its losses are, and what can be asked for at a cost.

    `losses`: each row's weighted sum of objectives against each teacher, without gradient; 0 where not
    selected. `selected`: which teachers count for a row. `embeddings`: the student's, for the whole batch,
    where gradients are taken. `generator`: on the CPU, seeded by (seed, step), the same in every process.

    `teacher_losses()` gives one loss a teacher, the mean over its selected rows, with gradient; 0 without
    rows. `own_losses(scale)` gives each teacher's contrastive loss on its own embeddings, per row, without
    gradient; `scale` stands in for the teachers' own logit scales.
    """

    losses: Float[Tensor, "batch teachers"]
    selected: Bool[Tensor, "batch teachers"]
    generator: torch.Generator
    embeddings: tuple[Float[Tensor, "batch dim"], ...]
    teacher_losses: Callable[[], Float[Tensor, " teachers"]]
    own_losses: Callable[[float | None], Float[Tensor, "batch teachers"]]

    def gramian(self) -> Float[Tensor, "teachers teachers"]:
        """G = J·Jᵀ, where row t of J is ∂ℓ_t/∂(student's embeddings), flattened; ℓ_t is teacher t's loss.

        One backward pass a teacher through heads and objectives; no tower is run. A teacher without selected
        rows has a row and a column of zeros. Sener and Koltun (2018, section 3.3) show that the norm of these
        gradients bounds that of the gradients over the parameters behind.
        """
        rows = [self._gradient(loss) for loss in self.teacher_losses()]
        jacobian = torch.stack(rows)
        return jacobian @ jacobian.T

    def _gradient(self, loss: Float[Tensor, ""]) -> Float[Tensor, " embeddings"]:
        found = torch.autograd.grad(
            loss, self.embeddings, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([gradient.flatten() for gradient in found])
