"""The learning rate as a function of the step, so that resuming needs no scheduler state."""

import math

from meddistill.training.config import TrainingConfig


def warmup_steps(config: TrainingConfig, *, total: int) -> int:
    """Steps of warm-up; a share is rounded up, and at least one step is left after it."""
    steps = math.ceil(config.warmup * total) if isinstance(config.warmup, float) else config.warmup
    return min(steps, total - 1)


def learning_rate(config: TrainingConfig, *, step: int, total: int) -> float:
    """The rate of optimiser step `step` (from 0) of `total`.

    Linear over the W steps of warm-up, rate · (step + 1)/(W + 1), so that step W has the full rate; then
    rate · ½(1 + cos(π·(step − W)/(total − W))), which step `total` would see at 0.
    """
    warmup = warmup_steps(config, total=total)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / (total - warmup)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
