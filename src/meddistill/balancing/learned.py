"""Weights that a small network of its own gives, learnt with the student."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.reduce import quotient
from meddistill.balancing.weighting import Weighting, masked_softmax
from meddistill.data.draws import derive_seed

# The network's gradient stands beside the student's, whose clipped norm it would fill; AdamW's steps do not
# depend on it.
_SIZE: Final = 1e-3


class LearnedWeighting(Weighting):
    """α = softmax of logits that a network gives a row b and teacher t; the network learns to make small

        as published    mean_b Σ_t α_bt·ℓ̄_t
        guarded         mean_b [Σ_t α_bt·ℓ̄_t/ℓ̄ − η·H(α_b)],    H(α) = −Σ_t α_t·log α_t

    over the selected teachers of each row; ℓ̄_t is teacher t's mean loss over its rows and ℓ̄ the mean of these
    over the teachers that have rows. η = `entropy`; 0 is as published.

    As published ∂/∂z_t = α_t·(ℓ̄_t − Σ_s α_s·ℓ̄_s) is below 0 for the teacher that is easiest to follow: its
    weight goes to 1 and the others are forgotten. Guarded, the minimum lies inside, α_t ∝ exp(−ℓ̄_t/(η·ℓ̄)),
    whatever the size of the losses.

    Source: "Agglomerating Large Vision Encoders via Distillation for VFSS Segmentation" (arXiv 2504.02351),
    as far as its text is known. Deviations: the guard; and logits are `rate` times what the layers give, so
    that AdamW's steps of about the learning rate become `rate` times that. The student gets α as constants,
    which changes no gradient: Σ_t α_t·ℓ_t is learnt from by the student through ℓ and by the network through
    α, and this is the network's share.
    """

    def __init__(self, *, entropy: float, rate: float) -> None:
        super().__init__()
        self.entropy, self.rate = entropy, rate

    @abstractmethod
    def logits(self, context: BalancingContext, losses: Float[Tensor, " teachers"]) -> Tensor:
        """Logits of `[teachers]` or `[batch, teachers]`, with gradient for the parameters, before `rate`."""

    def weights(self, context: BalancingContext) -> Float[Tensor, "batch teachers"]:
        """Softmax over each row's selected teachers."""
        return self._shares(context, self._losses(context)).detach().to(context.losses.dtype)

    def own_loss(self, context: BalancingContext) -> Float[Tensor, ""]:
        """What the network makes small, times a constant; gradient for its parameters alone."""
        losses = self._losses(context)
        shares = self._shares(context, losses)
        rows = (shares * losses).sum(dim=1)
        if self.entropy:
            logarithms = shares.clamp_min(torch.finfo(shares.dtype).tiny).log()
            rows = rows + self.entropy * (shares * logarithms).sum(dim=1)
        return _SIZE * quotient(rows.sum(), context.selected.any(dim=1).sum())

    def _losses(self, context: BalancingContext) -> Float[Tensor, " teachers"]:
        """ℓ̄_t, guarded ℓ̄_t/ℓ̄; 0 for teachers without rows."""
        losses = context.mean_losses
        return _relative(losses, context.selected.any(dim=0)) if self.entropy else losses

    def _shares(self, context: BalancingContext, losses: Tensor) -> Float[Tensor, "batch teachers"]:
        logits = self.rate * self.logits(context, losses)
        return masked_softmax(logits.expand(context.selected.shape), context.selected)


@final
class LossMLP(LearnedWeighting):
    """z = W₂·σ(W₁·L + b₁) + b₂, W₁ h × T, W₂ T × h, of the vector L of the teachers' losses.

    Deviation: the paper's W₂ is printed 1 × h, which cannot give T weights. L is ℓ̄ as it is, guarded ℓ̄_t/ℓ̄;
    0 for teachers without rows. σ is the logistic function. W₂ and b₂ start at 0: equal weights.
    """

    def __init__(self, teachers: int, *, hidden: int, entropy: float, rate: float, seed: int) -> None:
        super().__init__(entropy=entropy, rate=rate)
        self.first = _linear(teachers, hidden, seed=derive_seed("loss_mlp", seed))
        self.second = _linear(hidden, teachers, seed=None)

    def logits(self, context: BalancingContext, losses: Float[Tensor, " teachers"]) -> Tensor:  # noqa: ARG002
        """One a teacher, the same for all rows."""
        return self.second(self.first(losses.to(self.first.weight.dtype)).sigmoid())


@final
class QueryAttention(LearnedWeighting):
    """z_t = qᵀk_t/√d, with a learned query q and a key a teacher.

    `keys` learned: k_t is a parameter, and the weights are the same for all rows. `keys` pooled: with e_bt
    what teacher t outputs for row b's image, k_bt = K_t·e_bt/‖e_bt‖ + c_t, so that each image has weights of
    its own. Keys start at 0: equal weights.

    `dims`: of the teachers' image embeddings, for pooled keys; None for learned ones.
    """

    def __init__(
        self, teachers: int, *, dim: int, dims: Sequence[int] | None, entropy: float, rate: float, seed: int
    ) -> None:
        super().__init__(entropy=entropy, rate=rate)
        draws = torch.Generator().manual_seed(derive_seed("query_attention", seed))
        self.query = nn.Parameter(torch.randn(dim, generator=draws))
        self.keys = nn.Parameter(torch.zeros(teachers, dim)) if dims is None else None
        self.pooled = nn.ModuleList(_linear(each, dim, seed=None) for each in dims or ())

    def logits(self, context: BalancingContext, losses: Float[Tensor, " teachers"]) -> Tensor:  # noqa: ARG002
        """One a teacher, or one a row and teacher."""
        keys = self._pooled_keys(context) if self.keys is None else self.keys
        return keys @ self.query / math.sqrt(len(self.query))

    def _pooled_keys(self, context: BalancingContext) -> Float[Tensor, "batch teachers dim"]:
        images = [functional.normalize(each.to(self.query.dtype), dim=1) for each in context.queries.images()]
        return torch.stack([layer(each) for layer, each in zip(self.pooled, images, strict=True)], dim=1)


def _relative(losses: Float[Tensor, " teachers"], present: Bool[Tensor, " teachers"]) -> Tensor:
    """Losses over their mean over the teachers that have rows."""
    return quotient(losses, quotient((losses * present).sum(), present.sum()))


@torch.no_grad()
def _linear(inputs: int, outputs: int, *, seed: int | None) -> nn.Linear:
    """Weights as torch draws them, from a stream of their own; zeros without a seed."""
    layer = nn.Linear(inputs, outputs)
    bound = 0.0 if seed is None else 1 / math.sqrt(inputs)
    draws = torch.Generator().manual_seed(seed or 0)
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound, generator=draws)
    return layer
