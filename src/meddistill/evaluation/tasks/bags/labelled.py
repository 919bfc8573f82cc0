"""Bags of features with their classes, and what is said of bags: the records that the learners share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Floats, Floats32, Ints


@dataclass(frozen=True, kw_only=True)
class LabelledBags:
    """Features [instances, d] of every bag, and its class number."""

    features: tuple[Floats32, ...]
    truth: Ints

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, kw_only=True)
class BagScores:
    """Class probabilities [b, C], and for every bag the weights of its instances, which sum to one."""

    probabilities: Floats
    attention: tuple[Floats32, ...]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and standard deviation [d] of every feature over all instances of the training bags."""

    mean: Floats32
    deviation: Floats32

    def __call__(self, bags: Sequence[Floats32]) -> tuple[Floats32, ...]:
        """Bags whose features have mean 0 and deviation 1 in training; what is constant there becomes 0."""
        return tuple(((bag - self.mean) / self.deviation).astype(np.float32) for bag in bags)


def scale_of(bags: Sequence[Floats32]) -> Scale:
    """The scale of training bags."""
    count = sum(len(bag) for bag in bags)
    mean = np.sum([bag.sum(axis=0, dtype=np.float64) for bag in bags], axis=0) / count
    squares = np.sum([np.square(bag - mean).sum(axis=0) for bag in bags], axis=0)
    deviation = np.sqrt(squares / count)
    # A feature that is constant but for rounding would be blown up to noise.
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return Scale(mean=mean.astype(np.float32), deviation=np.where(flat, np.inf, deviation).astype(np.float32))


def class_weights(truth: Ints, classes: int) -> Floats:
    """n / (C' n_c) of every class, C' the classes present; 0 for a class without bags."""
    counts = np.bincount(truth, minlength=classes).astype(np.float64)
    present = counts > 0
    return np.where(present, len(truth) / (present.sum() * np.maximum(counts, 1)), 0.0)
