"""How sure the order of models on a task is, over resamples of patients."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from meddistill.evaluation.base.bootstrap import DECIMALS, Replicates
from meddistill.evaluation.base.records import Place


def places(task: str, replicates: Mapping[str, Replicates], *, level: float) -> list[Place]:
    """The place of every model on one task; `replicates` [1 + resamples] by model, on the same resamples.

    Resamples on which a model has no value are left out. Nothing below two models, or where more than half
    of the resamples would be left out.
    """
    if len(replicates) < 2:
        return []
    values = np.stack([each[1:] for each in replicates.values()], axis=1)
    valid = np.isfinite(values).all(axis=1)
    if 2 * np.count_nonzero(valid) < len(values):
        return []
    ranks = stats.rankdata(-np.round(values[valid], DECIMALS), axis=1)
    best = ranks == ranks.min(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    tail = (1 - level) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=0)
    return [
        Place(
            model=model,
            task=task,
            first=float(first[index]),
            rank=float(ranks[:, index].mean()),
            low=float(low[index]),
            high=float(high[index]),
            models=len(replicates),
        )
        for index, model in enumerate(replicates)
    ]
