"""The operating point at which groups of patients are compared."""

from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.tasks.classification.config import OperatingPoint
from meddistill.evaluation.tasks.classification.operating_points import threshold

_YOUDEN: Final = OperatingPoint(youden=True)


def at_youden_point(truth: Ints, scores: Floats, rows: Flags, seeds: Ints) -> Flags:
    """Which rows are given class 1 where each seed's fit decides at its own Youden point.

    The threshold maximises sensitivity + specificity - 1 over all `rows` of a seed (Youden, "Index for rating
    diagnostic tests", 1950), as `operating_points.threshold` finds it. It is chosen on the rows that are
    tested and then fixed: right for comparing groups of them with one another, too good as a sensitivity of
    its own.
    Rows outside `rows`, and all rows of a seed that has one class only, are given class 0.
    """
    given = np.zeros(len(truth), dtype=bool)
    for seed in np.unique(seeds[rows]):
        mine = rows & (seeds == seed)
        held = threshold(truth[mine] == 1, scores[mine], _YOUDEN)
        if held is not None:
            given |= mine & (scores >= held)
    return given
