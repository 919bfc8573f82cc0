"""Intervals by resampling patients.

Every patient is given Poisson(1) copies in a resample (the Poisson bootstrap: Hanley & MacGibbon, "Creating
non-parametric bootstrap samples using Poisson frequencies", 2006), all rows of a patient together. The copies
depend on (seed, the patient's number in the suite, resample) only. So models are compared on the same
resamples, tasks that share patients vary together in a mean over tasks (images of one patient are no
independent evidence), and adding a task on the same tables moves no other task's interval. The number of
patients of a resample varies by its square root; the metrics are ratios, so that this matters from order 1/n
on.

A resample *fails* for a metric that is not defined on it (no row left; one class only for AUC). It is left
out and counted. When fewer than half of the resamples remain, or there are fewer than two patients, no
interval is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig

Weights = NDArray[np.float32]
Replicates = NDArray[np.float64]

_LEAST_PATIENTS = 2
# Decimals to which scores are compared: sums in another order differ in the last bits, and equal ones tie.
DECIMALS = 12


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval; None where not defined. `failed` counts resamples that were left out."""

    value: float | None
    low: float | None = None
    high: float | None = None
    failed: int = 0


class Resampler:
    """The weights of patients in the sample itself and in every resample, each patient drawn once."""

    def __init__(self, config: BootstrapConfig) -> None:
        self.config = config
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def weights(self, patients: Ints) -> Weights:
        """Weights [1 + resamples, p] of `patients` [p], numbers that stand for patients in the whole suite.

        Row 0 holds ones, so that the estimate itself comes from the same code as its resamples.
        """
        columns = [self._column(int(patient)) for patient in patients]
        if not columns:
            return np.zeros((1 + self.config.resamples, 0), dtype=np.float32)
        return np.stack(columns, axis=1).astype(np.float32)

    def _column(self, patient: int) -> NDArray[np.uint8]:
        if patient not in self._drawn:
            key = (self.config.seed << 64) | patient
            generator = np.random.Generator(np.random.Philox(key=key))
            drawn = np.ones(1 + self.config.resamples, dtype=np.uint8)
            drawn[1:] = generator.poisson(1.0, self.config.resamples)
            self._drawn[patient] = drawn
        return self._drawn[patient]


def estimate(replicates: Replicates, *, patients: int, level: float) -> Estimate:
    """Point value (entry 0) and percentile interval (the other entries) of `replicates` [1 + resamples].

    Undefined replicates are NaN.
    """
    point = replicates[0]
    if not np.isfinite(point):
        return Estimate(value=None)
    resampled = replicates[1:]
    valid = resampled[np.isfinite(resampled)]
    failed = len(resampled) - len(valid)
    if patients < _LEAST_PATIENTS or not len(valid) or 2 * len(valid) < len(resampled):
        return Estimate(value=float(point), failed=failed)
    tail = (1 - level) / 2
    low, high = np.quantile(valid, [tail, 1 - tail])
    return Estimate(value=float(point), low=float(low), high=float(high), failed=failed)


def weighted_mean(values: Floats, weights: Weights, groups: Ints) -> Replicates:
    """Σ w·value / Σ w for every resample, [R]; NaN where no row has weight.

    Parameters
    ----------
    values
        One a row, [n].
    weights
        [R, p]: weight of every patient in every resample.
    groups
        [n]: which column of `weights` a row belongs to.
    """
    patients = weights.shape[1]
    total = np.bincount(groups, weights=values, minlength=patients)
    count = np.bincount(groups, minlength=patients).astype(np.float64)
    exact = weights.astype(np.float64)
    with np.errstate(invalid="ignore"):
        mean: Replicates = (exact @ total) / (exact @ count)
    return mean


def mean_replicates(parts: Sequence[Replicates]) -> Replicates:
    """Unweighted mean, resample by resample; undefined where a part is."""
    return np.mean(np.stack(parts), axis=0)


def mean_of_defined(parts: Sequence[Replicates] | Floats) -> Replicates:
    """Mean over `parts`, each [R], of those that are defined in a resample; NaN where none is."""
    stacked = np.asarray(parts)
    defined = np.isfinite(stacked)
    with np.errstate(invalid="ignore"):
        mean: Replicates = np.where(defined, stacked, 0.0).sum(axis=0) / defined.sum(axis=0)
    return mean
