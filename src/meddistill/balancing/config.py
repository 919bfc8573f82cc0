"""What a recipe may say of selection and weighting. Loads no torch."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AvailableConfig(_Options):
    """Every teacher that is available for a row counts for it."""

    kind: Literal["available"] = "available"
    """Every teacher that knows the row's modality."""


class RandomDrawConfig(_Options):
    """One teacher a row, drawn uniformly from those available for it."""

    kind: Literal["random_draw"] = "random_draw"
    """One of those, drawn uniformly for each row."""


class UniformConfig(_Options):
    """Equal weights over the selected teachers of a row."""

    kind: Literal["uniform"] = "uniform"
    """Equal weights."""


class FixedConfig(_Options):
    """Given weights by teacher, normalised over the selected teachers of a row."""

    kind: Literal["fixed"] = "fixed"
    """Given weights."""
    weights: Mapping[str, NonNegativeFloat]
    """Every teacher → weight; 0 leaves one out. Normalised over the selected teachers of a row."""

    @model_validator(mode="after")
    def _one_is_positive(self) -> "FixedConfig":
        if not any(self.weights.values()):
            msg = f"`weights` must name a teacher with a weight above 0; got {dict(self.weights)}"
            raise ValueError(msg)
        return self


SelectionConfig = Annotated[AvailableConfig | RandomDrawConfig, Field(discriminator="kind")]
WeightingConfig = Annotated[UniformConfig | FixedConfig, Field(discriminator="kind")]
