"""How much each selected teacher counts for a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.balancing.config import FixedConfig, WeightingConfig
from meddistill.errors import ConfigError


class Weighting(nn.Module, ABC):
    """A rule that weights the selected teachers of each row."""

    @abstractmethod
    def weights(
        self, losses: Float[Tensor, "batch teachers"], mask: Bool[Tensor, "batch teachers"]
    ) -> Float[Tensor, "batch teachers"]:
        """Weights that sum to 1 over each row's selected teachers and are 0 for the others.

        `losses` are the rows' losses without gradient. A row without a selected teacher has zeros throughout.
        """


@final
class Uniform(Weighting):
    """w_bt = 1 / number of row b's selected teachers."""

    def weights(
        self, losses: Float[Tensor, "batch teachers"], mask: Bool[Tensor, "batch teachers"]
    ) -> Float[Tensor, "batch teachers"]:
        """Equal shares."""
        return _shares(mask.to(losses.dtype))


@final
class Fixed(Weighting):
    """w_bt = a_t / Σ_{t' selected} a_t', for given a ≥ 0."""

    factors: Float[Tensor, " teachers"]

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32), persistent=False)

    def weights(
        self, losses: Float[Tensor, "batch teachers"], mask: Bool[Tensor, "batch teachers"]
    ) -> Float[Tensor, "batch teachers"]:
        """Shares in proportion to the factors; zeros where all selected teachers have factor 0."""
        return _shares(mask.to(losses.dtype) * self.factors.to(losses.dtype))


def _shares(amounts: Float[Tensor, "batch teachers"]) -> Float[Tensor, "batch teachers"]:
    whole = amounts.sum(dim=1, keepdim=True)
    return amounts / torch.where(whole > 0, whole, 1.0)


def build_weighting(config: WeightingConfig, *, teachers: Sequence[str]) -> Weighting:
    """The rule that a recipe names. Raises ConfigError where the weights do not name these teachers."""
    if not isinstance(config, FixedConfig):
        return Uniform()
    unknown = [name for name in config.weights if name not in teachers]
    missing = [name for name in teachers if name not in config.weights]
    known = ", ".join(teachers)
    mistakes = [f"`weights.{name}` must be one of the teachers {known}. Remove it." for name in unknown]
    mistakes += [f"`weights.{name}` must be given; it is missing. 0 leaves it out." for name in missing]
    if mistakes:
        subject = "weighting"
        raise ConfigError(subject, mistakes)
    return Fixed([config.weights[name] for name in teachers])
