"""The mean or maximum over a bag, then logistic regression: the cheap way to evaluate bags."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from meddistill.arrays import Floats, Floats32
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.labelled import BagScores, LabelledBags, scale_of
from meddistill.evaluation.tasks.classification.config import DEFAULT_GRID
from meddistill.evaluation.tasks.classification.logistic import class_probabilities, fit_logistic, quality

_MOST_ITERATIONS = 1000


def pooled_scores(
    train: LabelledBags,
    validation: LabelledBags | None,
    test: Sequence[Floats32],
    *,
    pooling: Literal["mean", "max"],
    classes: int,
    config: BagClassificationConfig,
) -> BagScores:
    """Multinomial logistic regression by L-BFGS on pooled features, standardised over the training bags.

    C is `config.c`, or with validation bags the one of the linear probe's grid with the highest balanced
    accuracy (equal ones told apart by likelihood). The weights of instances are equal for the mean; for the
    maximum they are the share of features whose maximum an instance holds, divided among equals.
    """
    pool = {"mean": _mean, "max": _max}[pooling]
    scale = scale_of([pool(train.features)])

    def scaled(bags: Sequence[Floats32]) -> Floats:
        return scale([pool(bags)])[0].astype(np.float64)

    features, balanced = scaled(train.features), config.balanced
    fits = [
        fit_logistic(features, train.truth, c=c, max_iterations=_MOST_ITERATIONS, balanced=balanced)
        for c in ([config.c] if validation is None else sorted(DEFAULT_GRID))
    ]
    best = fits[0]
    if validation is not None:
        known, truth = scaled(validation.features), validation.truth
        best = max(fits, key=lambda fit: quality(class_probabilities(fit, known, classes), truth))
    share = _equal_shares if pooling == "mean" else _shares_of_maxima
    return BagScores(
        probabilities=class_probabilities(best, scaled(test), classes),
        attention=tuple(share(bag) for bag in test),
    )


def _mean(bags: Sequence[Floats32]) -> Floats32:
    return np.stack([bag.mean(axis=0, dtype=np.float64) for bag in bags]).astype(np.float32)


def _max(bags: Sequence[Floats32]) -> Floats32:
    return np.stack([bag.max(axis=0) for bag in bags])


def _equal_shares(bag: Floats32) -> Floats32:
    return np.full(len(bag), 1 / len(bag), dtype=np.float32)


def _shares_of_maxima(bag: Floats32) -> Floats32:
    holds = bag == bag.max(axis=0)
    shares: Floats32 = (holds / holds.sum(axis=0)).mean(axis=1).astype(np.float32)
    return shares
