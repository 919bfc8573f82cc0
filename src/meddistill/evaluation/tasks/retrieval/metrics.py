"""Retrieval metrics over weighted queries, for all resamples at once.

Every query has the rank (from 1) of its best right answer, see `task.py`. In each direction:

- `hit_at_k`: share of queries whose rank is at most k; CLIP's "recall at k".
- `median_rank`: median of the ranks; the mean of the two middle ones where the weights split evenly.

`mean_recall` is the mean of the six hit rates (k = 1, 5, 10, both directions).
"""

from typing import Final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Weights
from meddistill.evaluation.tasks.classification.metrics import row_weights

MAIN: Final = "mean_recall"
KS: Final = (1, 5, 10)
DIRECTIONS: Final = ("image_to_text", "text_to_image")
HITS: Final = tuple(f"{direction}_hit_at_{k}" for direction in DIRECTIONS for k in KS)


def rank_metrics(
    *, directions: Ints, ranks: Floats, shares: Floats, weights: Weights, groups: Ints
) -> dict[str, Replicates]:
    """All metrics for all resamples; NaN where a direction has no query.

    `directions` [n] are indices into DIRECTIONS, `ranks` [n] from 1, `shares` [n] the part of a query that
    an entry stands for, `weights` [R, p] and `groups` [n] as in `class_metrics`.
    """
    chunks: dict[str, list[Replicates]] = {}
    for index, direction in enumerate(DIRECTIONS):
        chosen = np.flatnonzero(directions == index)
        for part in row_weights(weights, groups[chosen]):
            for name, values in _one_direction(ranks[chosen], part * shares[chosen]).items():
                chunks.setdefault(f"{direction}_{name}", []).append(values)
    metrics = {name: np.concatenate(parts) for name, parts in chunks.items()}
    return {MAIN: np.mean([metrics[name] for name in HITS], axis=0), **metrics}


def chance_of(positives: Ints, gallery: int) -> Floats:
    """What guessing gives a query with p right ones among g answers: 1 - C(g - p, k) / C(g, k), mean over k.

    `positives` [n] are p of each query; [n].
    """
    rates = []
    for k in KS:
        steps = np.arange(min(k, gallery))
        missed = np.clip(gallery - positives[:, None] - steps, 0, None) / (gallery - steps)
        rates.append(1 - missed.prod(axis=1))
    return np.mean(rates, axis=0, dtype=np.float64)


def _one_direction(ranks: Floats, weights: Floats) -> dict[str, Replicates]:
    hits = np.stack([ranks <= k for k in KS], axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        rates = (weights @ hits) / weights.sum(axis=1, keepdims=True)
    named = {f"hit_at_{k}": rates[:, column] for column, k in enumerate(KS)}
    return named | {"median_rank": weighted_median(ranks, weights)}


def weighted_median(values: Floats, weights: Floats) -> Replicates:
    """Median of `values` [n] under every row of `weights` [R, n]; NaN where a row is all zero."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    ordered, running = values[order], np.cumsum(weights[:, order], axis=1)
    half = running[:, -1:] / 2
    slack = running[:, -1:] * 1e-12  # sums of shares like 1/3 miss an exact half by rounding
    last = len(values) - 1
    lower = ordered[np.minimum((running < half - slack).sum(axis=1), last)]
    upper = ordered[np.minimum((running <= half + slack).sum(axis=1), last)]
    return np.where(running[:, -1] > 0, (lower + upper) / 2, np.nan)
