"""Which patients are ranked by a head that was fitted on which others."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from meddistill.arrays import Flags, Ints


def assign_folds(
    events: Flags, *, folds: int, seed: int, sites: Sequence[str] | None = None, strata: Ints | None = None
) -> Ints:
    """The fold of every patient, from 0: at most `folds`, with about equally many events in each.

    With `strata` [n] the patients of each stratum are spread over the folds too, and its events where it has
    enough. With `sites` all patients of a site are in one fold (Howard et al. 2021, "The impact of
    site-specific digital histology signatures on deep learning model accuracy and bias"), with events spread
    as evenly as that allows. Fewer patients (or sites) than folds make fewer folds; one alone makes one fold.
    """
    count = min(folds, len(events) if sites is None else len(set(sites)))
    fold_of = np.zeros(len(events), dtype=np.int64)
    if count < 2:
        return fold_of
    rows = np.zeros((len(events), 1))
    classes = _classes(events, np.zeros(len(events), dtype=np.int64) if strata is None else strata, count)
    if sites is not None:
        grouped = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        parts = grouped.split(rows, classes, groups=np.array(sites, dtype=object))
    else:
        kind = KFold if len(np.unique(classes)) == 1 else StratifiedKFold
        parts = kind(count, shuffle=True, random_state=seed).split(rows, classes)
    for number, (_, tested) in enumerate(parts):
        fold_of[tested] = number
    return fold_of


def _classes(events: Flags, strata: Ints, folds: int) -> Ints:
    """What is spread evenly: strata, each divided by event where it has `folds` events and censorings.

    With fewer there is nothing to spread evenly; a stratum of fewer patients counts to the largest class.
    """
    codes = 2 * strata
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        if folds <= int(events[rows].sum()) <= len(rows) - folds:
            codes[rows] += events[rows]
    classes, counts = np.unique(codes, return_counts=True)
    codes[np.isin(codes, classes[counts < folds])] = classes[counts.argmax()]
    return codes
