"""Logistic regression on embeddings, and how good its probabilities are on validation rows."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.tasks.classification.metrics import main_metric

_LEAST: Final = 1e-15


def scaling(features: Floats) -> tuple[Floats, float]:
    """Mean of each feature and the common standard deviation of all."""
    centre = features.mean(axis=0)
    return centre, float(np.sqrt(np.square(features - centre).mean())) or 1.0


def fit_logistic(
    features: Floats,
    truth: Ints,
    *,
    c: float,
    max_iterations: int,
    balanced: bool = False,
    start: Any = None,
) -> Any:
    """One fit by L-BFGS, begun at the coefficients of the fit `start`, or at zero.

    `balanced`: every class has the same total weight.
    """
    weight = "balanced" if balanced else None
    model = LogisticRegression(
        C=c, max_iter=max_iterations, class_weight=weight, warm_start=start is not None
    )
    if start is not None:
        model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
        model.classes_ = start.classes_
    # One thread: L-BFGS takes many small products, between which threads wait for one another. Two are
    # no faster on a free machine and up to fifty times slower on a busy one.
    with warnings.catch_warnings(), one_thread():
        # A large C may not converge on separable data; validation decides whether it is good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, truth)


def logistic_path(
    features: Floats, truth: Ints, grid: Iterable[float], *, max_iterations: int
) -> Iterator[Any]:
    """A fit for each C, begun at the one before: the same optimum in a fraction of the iterations."""
    fit = None
    for c in grid:
        fit = fit_logistic(features, truth, c=c, max_iterations=max_iterations, start=fit)
        yield fit


def class_probabilities(fit: Any, features: Floats, classes: int) -> Floats:
    """[n, C]; classes without training rows have zero."""
    probabilities = np.zeros((len(features), classes))
    probabilities[:, fit.classes_] = fit.predict_proba(features)
    return probabilities


def quality(probabilities: Floats, truth: Ints) -> tuple[float, float]:
    """Balanced accuracy, and mean log likelihood to tell equal ones apart."""
    rows = np.arange(len(truth))
    balanced = main_metric(truth, probabilities, np.ones((1, len(rows)), dtype=np.float32), rows)[0]
    return float(balanced), float(np.log(np.maximum(probabilities[rows, truth], _LEAST)).mean())
