"""The mean or maximum over a bag, then logistic regression: the cheap way to judge bags."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from meddistill.evaluation.arrays import Floats, Floats32
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.labelled import BagScores, LabelledBags, judge, scale_of
from meddistill.evaluation.tasks.classification.config import DEFAULT_GRID

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
    features = scale([pool(train.features)])[0]
    best: tuple[tuple[float, float], Any] | None = None
    for c in [config.c] if validation is None else sorted(DEFAULT_GRID):
        fitted = _fit(features, train, c=c, config=config)
        score = (0.0, 0.0)
        if validation is not None:
            probabilities = _probabilities(fitted, scale([pool(validation.features)])[0], classes)
            score = judge(probabilities, validation.truth)
        if best is None or score > best[0]:
            best = score, fitted
    if best is None:
        msg = "the grid of C must not be empty"
        raise RuntimeError(msg)
    share = _equal_shares if pooling == "mean" else _shares_of_maxima
    return BagScores(
        probabilities=_probabilities(best[1], scale([pool(test)])[0], classes),
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


def _fit(features: Floats32, train: LabelledBags, *, c: float, config: BagClassificationConfig) -> Any:
    model = LogisticRegression(
        C=c, max_iter=_MOST_ITERATIONS, class_weight="balanced" if config.balanced else None
    )
    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a large C on separable bags
        return model.fit(features.astype(np.float64), train.truth)


def _probabilities(model: Any, features: Floats32, classes: int) -> Floats:
    """[b, C]; a class without training bags has zero."""
    found = np.zeros((len(features), classes))
    found[:, model.classes_] = model.predict_proba(features.astype(np.float64))
    return found
