"""Which epoch's weights a stage keeps: those of the best number on rows that it does not learn from."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor

from meddistill.training.student import Student


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Selection of a stage's weights.

    `measure` gives the trainee's number after an epoch, the higher the better; the main process alone calls
    it, with the trainee in evaluation mode. After `patience` epochs without a better one than the best so far
    the stage ends; None goes through all epochs. What decides the number, a hash of the rows for instance,
    belongs to the stage's `inputs`.
    """

    measure: Callable[[Student], float]
    patience: int | None = None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best number so far, the epoch (from 1) that it is of, and that epoch's weights on the host."""

    value: float
    epoch: int
    weights: Mapping[str, Tensor]


@final
class Selection:
    """Keeps the best epoch of a stage; `best` is where it begins, None at the first epoch."""

    def __init__(self, validation: Validation | None, best: Best | None) -> None:
        self._validation = validation
        self.best = best

    def take(self, value: float, *, epoch: int, student: Student) -> None:
        """Look at an epoch's number. Equal ones and NaN are no better than what is kept."""
        if self.best is None or value > self.best.value or math.isnan(self.best.value):
            weights = {name: each.detach().cpu().clone() for name, each in student.state_dict().items()}
            self.best = Best(value=value, epoch=epoch, weights=weights)

    def is_over(self, epoch: int) -> bool:
        """Whether `patience` epochs, up to `epoch`, were no better."""
        patience = None if self._validation is None else self._validation.patience
        return patience is not None and self.best is not None and epoch - self.best.epoch >= patience
