"""The operating point at which groups of patients are compared."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from meddistill.evaluation.score import Mask

Ints = NDArray[np.int64]


def at_youden_point(truth: Ints, scores: NDArray[np.float64], rows: Mask, seeds: Ints) -> Mask:
    """Which rows are given class 1 where each seed's fit decides at its own Youden point.

    The threshold maximises sensitivity + specificity - 1 over all `rows` of a seed (Youden, "Index for rating
    diagnostic tests", 1950); of equal ones it is the highest. It is chosen on the rows that are judged and
    then fixed: right for comparing groups of them with one another, too good as a sensitivity of its own.
    Rows outside `rows`, and all rows of a seed that has one class only, are given class 0.
    """
    given = np.zeros(len(truth), dtype=bool)
    for seed in np.unique(seeds[rows]):
        mine = rows & (seeds == seed)
        if len(np.unique(truth[mine])) < 2:
            continue
        false, true, thresholds = roc_curve(truth[mine], scores[mine], drop_intermediate=False)
        given |= mine & (scores >= thresholds[np.argmax(true - false)])
    return given
