"""How a stage is trained. Loads no torch."""

from typing import Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
)

from meddistill.strict import Strict


class TrainingConfig(Strict):
    """Hyper-parameters of one stage, the same for every method."""

    epochs: PositiveInt = 10
    """Passes over the table. The rows that do not fill a last batch are left out of an epoch."""
    batch_size: PositiveInt = 128
    """Rows of one optimiser step over all processes; the contrastive losses see all of them."""
    micro_batch: PositiveInt | None = None
    """Rows of one forward pass in one process (null: its whole share). Memory, not mathematics: the gradient
    is that of the whole batch for students without batch statistics; one with them needs two rows in every
    pass.
    """
    learning_rate: PositiveFloat = 1e-3
    """At the end of the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine to 0, or constant."""
    warmup: float | int = 0.1
    """A share of all steps (below 1, with a decimal point) or a number of steps; linear from 0."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW's; not applied to biases, norms and the logit scale."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's."""
    eps: PositiveFloat = 1e-6
    """AdamW's."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest L2 norm of the whole gradient; null for no clipping."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the towers' forward pass; losses are always float32. `auto`: bfloat16 on a GPU that has it, else
    float32.
    """
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of the order of rows, the views and the draws; that of the first stage also of the student's random
    weights.
    """
    workers: NonNegativeInt = 0
    """Processes of the data loader; 0 loads in the training process."""
    checkpoint_every: PositiveInt = 200
    """Optimiser steps between checkpoints: what a crash can cost."""
    log_every: PositiveInt = 10
    """Optimiser steps between lines of `log.jsonl`."""

    @field_validator("warmup")
    @classmethod
    def _share_or_steps(cls, value: float) -> float | int:
        if value < 0 or (isinstance(value, float) and value >= 1):
            msg = "must be a share of the steps from 0 to below 1, or a whole number of steps"
            raise ValueError(msg)
        return value

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            msg = "must be two numbers from 0 to below 1"
            raise ValueError(msg)
        return value


# What may change when an interrupted stage goes on: memory, speed and logging, not mathematics.
FREE_ON_RESUME = frozenset({"micro_batch", "workers", "checkpoint_every", "log_every"})
