"""Agreement of grades beyond chance, for all resamples at once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.classification.metrics import predicted_share, row_weights
from meddistill.evaluation.statistics.bootstrap import Replicates, Weights

KAPPA: Final = "quadratic_kappa"


def quadratic_kappa(
    truth: NDArray[np.int64], scores: NDArray[np.float64], weights: Weights, groups: NDArray[np.int64]
) -> Replicates:
    """κ = 1 - Σ_ij (i - j)² O_ij / Σ_ij (i - j)² E_ij, [R]; from -1 to 1, 0 for agreement by chance.

    O counts rows of grade i that were given grade j, E is what the margins of O alone would give (Cohen,
    "Weighted kappa", 1968; quadratic weights). Deviation: a row whose highest score is shared by m grades
    counts 1/m for each, as in all our metrics. NaN where true and given grades are one and the same grade
    throughout. Arguments as of `class_metrics`; grades are class numbers, in order.
    """
    grades = np.arange(scores.shape[1], dtype=np.float64)
    distance = np.square(grades[:, None] - grades)
    is_grade, given = np.eye(len(grades))[truth], predicted_share(scores)
    cost = (given * distance[truth]).sum(axis=1)
    parts = []
    for part in row_weights(weights, groups):
        expected = ((part @ is_grade @ distance) * (part @ given)).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            disagreement = (part @ cost) * part.sum(axis=1) / expected
        parts.append(np.where(expected > 0, 1 - disagreement, np.nan))
    return np.concatenate(parts)
