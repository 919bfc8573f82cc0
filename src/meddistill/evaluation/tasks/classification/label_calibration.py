"""How far the probabilities of several labels can be taken at their word, each label by itself.

Rows whose truth of a label is unknown (-1) do not count for it. p is the probability that the label is there,
y whether it is (1 or 0).

- `ece`: Σ over 15 bins of equal width of p of |Σ y - Σ p| / n. This is the error of the probability of being
  there, as for two classes in torchmetrics; classes use that of the chosen one instead (`calibration.py`).
- `brier`: mean of (p - y)², from 0 to 1 (Brier, 1950); half of what it is for two classes.
- temperature: T of p^(1/T) / (p^(1/T) + (1 - p)^(1/T)), one for each label, which moves no AUC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.bootstrap import Weights
from meddistill.evaluation.tasks.classification.calibration import (
    BINS,
    at_bound,
    equal_width,
    fit_temperature,
    tempered,
)
from meddistill.evaluation.tasks.classification.label_metrics import UNKNOWN
from meddistill.evaluation.tasks.classification.metrics import weighted_sums

LABEL_CALIBRATION: Final = ("ece", "brier")
_COLUMNS: Final = BINS + 2


@dataclass(frozen=True, kw_only=True)
class LabelTemperature:
    """The temperature of one label; where it is no result, `why` says so."""

    temperature: float
    why: str = ""


def label_calibration(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> Mapping[str, Floats]:
    """`ece` and `brier` of every label for all resamples, [L, R] each; NaN where no known row has weight.

    `truth` [n, L] in {1, 0, -1}, `scores` [n, L] in [0, 1]; `weights` and `groups` as in `class_metrics`.
    """
    columns = np.concatenate([_columns(*each) for each in zip(truth.T, scores.T, strict=True)], axis=1)
    sums = weighted_sums(columns, weights, groups).reshape(len(weights), -1, _COLUMNS)
    total = sums[:, :, -1]
    with np.errstate(invalid="ignore"):
        ece, brier = np.abs(sums[:, :, :BINS]).sum(axis=2) / total, sums[:, :, -2] / total
    return dict(zip(LABEL_CALIBRATION, (ece.T, brier.T), strict=True))


def label_temperatures(truth: Ints, scores: Floats) -> list[LabelTemperature]:
    """The temperature of every label on rows with `truth` and `scores` [n, L]; see `fit_temperature`."""
    temperatures = []
    for column, own in zip(truth.T, scores.T, strict=True):
        known = column != UNKNOWN
        if not known.any():
            temperatures.append(LabelTemperature(temperature=1.0, why="no validation row where it is known"))
            continue
        temperature = fit_temperature(column[known], _both(own[known]))
        temperatures.append(LabelTemperature(temperature=temperature, why=at_bound([temperature])))
    return temperatures


def apply_temperature(scores: Floats, temperatures: list[LabelTemperature]) -> Floats:
    """`scores` [n, L] under the temperature of each label."""
    columns = [
        tempered(_both(own), each.temperature)[:, 1] for own, each in zip(scores.T, temperatures, strict=True)
    ]
    return np.stack(columns, axis=1)


def _columns(truth: Ints, scores: Floats) -> Floats:
    """What is summed over rows for one label, [n, bins + 2]; zero where the label is unknown."""
    known, present = (truth != UNKNOWN).astype(np.float64), (truth == 1).astype(np.float64)
    gaps = ((present - scores) * known)[:, None] * np.eye(BINS)[equal_width(scores)]
    rest = np.stack([np.square(present - scores) * known, known], axis=1)
    return np.concatenate([gaps, rest], axis=1)


def _both(scores: Floats) -> Floats:
    return np.stack([1 - scores, scores], axis=1)
