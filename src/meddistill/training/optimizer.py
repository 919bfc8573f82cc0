"""AdamW over student and heads, whose update leaves everything as it is when the gradient is not finite."""

from collections.abc import Mapping
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.methods.base import Method
from meddistill.training.config import TrainingConfig
from meddistill.training.student import Student


@final
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with clipping by the global norm.

    Weight decay leaves out everything of fewer than two dimensions: biases, norms, the logit scale.
    """

    def __init__(self, *, student: Student, method: Method, config: TrainingConfig) -> None:
        named = [*student.named_parameters(), *method.named_parameters()]
        self._parameters = [parameter for _, parameter in named if parameter.requires_grad]
        self._clip_norm = config.clip_norm
        # The fused kernels are the ones that look at `found_inf`, on the device.
        decayed: dict[str, Any] = {"params": [each for each in self._parameters if each.ndim >= 2]}
        others: dict[str, Any] = {
            "params": [each for each in self._parameters if each.ndim < 2],
            "weight_decay": 0.0,
        }
        self._adamw = torch.optim.AdamW(
            [decayed, others],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return self._parameters

    def clear(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad(set_to_none=True)

    def gradient_norm(self) -> Float[Tensor, ""]:
        """The L2 norm of the whole gradient, on the device."""
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def update(self, *, rate: float, gradient_norm: Float[Tensor, ""], finite: Bool[Tensor, ""]) -> None:
        """One step at learning rate `rate`; none at all, moments included, where `finite` is False.

        `finite` stays on the device: this is what gradient scalers do when they meet an overflow.
        """
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, gradient_norm)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.grad_scale = None  # type: ignore[attr-defined]
        self._adamw.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return self._adamw.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over moments and step counts."""
        self._adamw.load_state_dict(dict(state))
