"""Tests between two models on the same rows."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from meddistill.arrays import Flags
from meddistill.evaluation.base.bootstrap import Replicates


def bootstrap_p(replicates: Replicates) -> float | None:
    """Two-sided p value of a paired difference, by inverting its percentile interval.

    `replicates` [1 + resamples] hold the estimate and the differences on resamples; undefined ones are NaN
    and left out. With b resamples below zero, a above and t equal to it (ties count half to each side) out
    of R: p = min(1, 2 (min(a, b) + t/2 + 1) / (R + 1)). The ones added keep p above zero (Davison & Hinkley,
    "Bootstrap Methods and their Application", 1997, eq. 4.11), so that the least p is 2 / (R + 1). None
    without any defined resample.
    """
    resampled = replicates[1:]
    valid = resampled[np.isfinite(resampled)]
    if not len(valid):
        return None
    ties = np.count_nonzero(valid == 0) / 2
    tail = min(np.count_nonzero(valid < 0), np.count_nonzero(valid > 0)) + ties
    return float(min(1.0, 2 * (tail + 1) / (len(valid) + 1)))


def min_p(resamples: int) -> float:
    """The smallest value that `bootstrap_p` can give."""
    return 2 / (resamples + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number by Holm's step-down rule; None stays None and counts for nothing.

    Sorted upwards, the i-th of m (from 0) becomes max over j <= i of min(1, (m - j) p_j) (Holm, "A simple
    sequentially rejective multiple test procedure", 1979). Valid whatever the dependence between tests.
    """
    known = [(value, place) for place, value in enumerate(p_values) if value is not None]
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for done, (value, place) in enumerate(sorted(known)):
        highest = max(highest, min(1.0, (len(known) - done) * value))
        corrected[place] = highest
    return corrected


def mcnemar_p(mine: Flags, theirs: Flags) -> float:
    """Exact two-sided p value of McNemar's test on decisions [n] that are right or wrong.

    Of the rows on which one model alone is right, half should be each model's: the binomial test of their
    counts. Without such rows p is 1. Rows must be independent of one another.
    """
    alone, others = np.count_nonzero(mine & ~theirs), np.count_nonzero(theirs & ~mine)
    if alone + others == 0:
        return 1.0
    return float(stats.binomtest(int(alone), int(alone + others), 0.5).pvalue)
