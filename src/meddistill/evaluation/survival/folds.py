"""Which patients are judged by a head that was fitted on which others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

Ints = NDArray[np.int64]


def assign_folds(
    events: NDArray[np.bool_], *, folds: int, seed: int, sites: Sequence[str] | None = None
) -> Ints:
    """The fold of every patient, from 0: at most `folds`, with about equally many events in each.

    With `sites` all patients of a site are in one fold (Howard et al. 2021, "The impact of site-specific
    digital histology signatures on deep learning model accuracy and bias"), with events spread as evenly as
    that allows. Fewer patients (or sites) than folds make fewer folds; one alone makes one fold.
    """
    count = min(folds, len(events) if sites is None else len(set(sites)))
    found = np.zeros(len(events), dtype=np.int64)
    if count < 2:
        return found
    rows = np.zeros((len(events), 1))
    if sites is not None:
        grouped = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        parts = grouped.split(rows, _strata(events, count), groups=np.array(sites, dtype=object))
    else:
        strata = _strata(events, count)
        kind = KFold if len(np.unique(strata)) == 1 else StratifiedKFold
        parts = kind(count, shuffle=True, random_state=seed).split(rows, strata)
    for number, (_, tested) in enumerate(parts):
        found[tested] = number
    return found


def _strata(events: NDArray[np.bool_], folds: int) -> NDArray[np.bool_]:
    """With fewer events (or censorings) than folds there is nothing to spread evenly."""
    enough = folds <= int(events.sum()) <= len(events) - folds
    return events if enough else np.zeros(len(events), dtype=bool)
