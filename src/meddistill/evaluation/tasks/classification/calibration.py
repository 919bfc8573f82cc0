"""How far probabilities can be taken at their word: metrics, the curve, and one number that mends it.

The confidence of a row is its highest probability; it is right as far as that class is the true one (m equal
highest probabilities count 1/m).

- `ece`: Σ over bins of |Σ right - Σ confidence| / n, in 15 bins of equal width (Guo et al., "On calibration
  of modern neural networks", 2017); a bin holds its lower edge, the last one both.
- `adaptive_ece`: the same in 15 bins of equal mass (Nguyen & O'Connor, 2015); rows of equal confidence stay
  together. The bins are those of the sample itself in every resample.
- `brier`: mean over rows of Σ over classes of (p - [true class])², from 0 to 2 (Brier, 1950). Some libraries
  give half of it for two classes.
- `nll`: mean of -ln p(true class) in nats, p not below 1e-15.

Both errors are sums of absolute values, which noise makes larger: a resample, with fewer distinct rows in a
bin, has on average a larger one than the sample, so that their intervals reach further up than down. Compare
models on the same rows; with few rows prefer Brier score and likelihood, which have no bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Weights
from meddistill.evaluation.base.exhibits import CALIBRATION_BINS
from meddistill.evaluation.tasks.classification.metrics import predicted_share, weighted_sums

BINS: Final = CALIBRATION_BINS
CALIBRATION: Final = ("ece", "adaptive_ece", "brier", "nll")
TEMPERED: Final = "temperature on validation"  # what the results call the probabilities after it
LEAST_TEMPERATURE: Final = 0.01
MOST_TEMPERATURE: Final = 100.0
_NEAR_BOUND: Final = 1.01  # the search stops just short of a bound
_LEAST: Final = 1e-15
_TINY: Final = 1e-300


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Mean confidence and share of right rows of the bins with rows in them, and how many rows."""

    confidence: Floats
    accuracy: Floats
    counts: Ints


def calibration_metrics(truth: Ints, scores: Floats, weights: Weights, groups: Ints) -> dict[str, Replicates]:
    """`ece`, `adaptive_ece`, `brier` and `nll` for all resamples, [R] each; NaN where no row has weight.

    `scores` [n, C] are probabilities; the rest as in `class_metrics`.
    """
    rows = np.arange(len(truth))
    confidence, right = _confidence(truth, scores)
    own = scores[rows, truth]
    brier = np.square(scores).sum(axis=1) - 2 * own + 1
    nll = -np.log(np.maximum(own, _LEAST))
    gap = (right - confidence)[:, None]
    columns = np.concatenate(
        [
            gap * _one_hot(equal_width(confidence)),
            gap * _one_hot(equal_mass(confidence)),
            np.stack([brier, nll, np.ones(len(rows))], axis=1),
        ],
        axis=1,
    )
    sums = weighted_sums(columns, weights, groups)
    total = sums[:, -1]
    with np.errstate(invalid="ignore"):
        values = (
            np.abs(sums[:, :BINS]).sum(axis=1) / total,
            np.abs(sums[:, BINS : 2 * BINS]).sum(axis=1) / total,
            sums[:, -3] / total,
            sums[:, -2] / total,
        )
    return dict(zip(CALIBRATION, values, strict=True))


def calibration_curve(truth: Ints, scores: Floats) -> Curve:
    """The curve in bins of equal width, as `ece` has them."""
    confidence, right = _confidence(truth, scores)
    bins = equal_width(confidence)
    counts = np.bincount(bins, minlength=BINS)
    used = counts > 0
    return Curve(
        confidence=np.bincount(bins, confidence, minlength=BINS)[used] / counts[used],
        accuracy=np.bincount(bins, right, minlength=BINS)[used] / counts[used],
        counts=counts[used],
    )


def equal_width(confidence: Floats) -> Ints:
    """Bin of every confidence, [n]."""
    edges = np.linspace(0, 1, BINS + 1)
    return np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, BINS - 1).astype(np.int64)


def equal_mass(confidence: Floats) -> Ints:
    """Bin of every confidence, [n]: as many rows in each as ties allow."""
    order = np.sort(confidence)
    first = np.searchsorted(order, confidence, side="left")
    return (first * BINS // max(1, len(confidence))).astype(np.int64)


def fit_temperature(truth: Ints, scores: Floats) -> float:
    """T of p^(1/T), normalised, with the lowest negative log likelihood; see `tempered`.

    Between 0.01 and 100: rows without an error would drive it to zero. Where a bound is as good as anything
    between (sure and right rows have no loss at many temperatures) the bound is what comes back.
    """

    def loss(logarithm: float) -> float:
        tempered_scores = tempered(scores, float(np.exp(logarithm)))
        return float(-np.log(np.maximum(tempered_scores[np.arange(len(truth)), truth], _TINY)).mean())

    bounds = (np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE))
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    best = min((*bounds, minimum.x), key=loss)
    return float(np.clip(np.exp(best), LEAST_TEMPERATURE, MOST_TEMPERATURE))


def at_bound(temperatures: Iterable[float]) -> str:
    """Why no such temperature is a result: one of them is a bound of the search. Empty where none is."""
    for each in temperatures:
        for bound in (LEAST_TEMPERATURE, MOST_TEMPERATURE):
            if max(each / bound, bound / each) < _NEAR_BOUND:
                return f"the temperature fitted on validation ran to its bound {bound:g}"
    return ""


def tempered(scores: Floats, temperature: float) -> Floats:
    """Softmax of logits / T, where `scores` [n, C] are the softmax of the logits (Guo et al., 2017)."""
    logits = np.log(np.maximum(scores, _TINY)) / temperature
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    tempered_scores: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return tempered_scores


def _confidence(truth: Ints, scores: Floats) -> tuple[Floats, Floats]:
    right = predicted_share(scores)[np.arange(len(truth)), truth]
    return scores.max(axis=1), right


def _one_hot(bins: Ints) -> Floats:
    return np.eye(BINS)[bins]
