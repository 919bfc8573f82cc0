"""From dumps of predictions to numbers with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.bootstrap import Replicates, Resampler
from meddistill.evaluation.class_metrics import MAIN, class_metrics, main_metric
from meddistill.evaluation.predictions import ClassPredictions, Predictions, RankPredictions
from meddistill.evaluation.rank_metrics import DIRECTIONS, rank_metrics
from meddistill.evaluation.rank_metrics import MAIN as MAIN_RANK
from meddistill.evaluation.results import ALL_ROWS

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A metric of one model on one task with all its resamples; entry 0 is the estimate itself."""

    metric: str
    replicates: Replicates
    n: int
    patients: int
    modality: str = ALL_ROWS
    setting: str = ""
    seeds: int = 1
    spread: float | None = None
    main: bool = field(default=False)


class Scorer:
    """Scores dumps; the same patients are drawn for every model and task."""

    def __init__(self, resampler: Resampler) -> None:
        self._resampler = resampler

    def score(self, predictions: Predictions) -> list[Score]:
        """All metrics on all rows, and the main metric on the rows of every modality."""
        if isinstance(predictions, RankPredictions):
            return self._ranks(predictions)
        return self._classes(predictions)

    def _classes(self, dump: ClassPredictions) -> list[Score]:
        settings = np.array(dump.settings, dtype=object)
        scores: list[Score] = []
        for setting in dict.fromkeys(dump.settings):
            scores += self._setting(dump, settings == setting, setting)
        scores += [
            self._modality(dump, mask & (settings == ""), modality)
            for modality, mask in _modalities(dump.modalities).items()
            if (mask & (settings == "")).any()
        ]
        return scores

    def _setting(self, dump: ClassPredictions, mask: Mask, setting: str) -> list[Score]:
        """Metrics of one setting, averaged over its seeds resample by resample."""
        fits = _by_seed(dump, mask)
        patients, groups = np.unique(dump.patients[fits[0]], return_inverse=True)
        weights = self._resampler.weights(patients)
        found = [class_metrics(dump.truth[rows], dump.scores[rows], weights, groups) for rows in fits]
        return [
            Score(
                metric=metric,
                replicates=np.mean([fit[metric] for fit in found], axis=0),
                n=len(fits[0]),
                patients=len(patients),
                setting=setting,
                seeds=len(fits),
                spread=float(np.std([fit[metric][0] for fit in found], ddof=1)) if len(fits) > 1 else None,
                main=metric == MAIN and not setting,
            )
            for metric in found[0]
        ]

    def _modality(self, dump: ClassPredictions, mask: Mask, modality: str) -> Score:
        fits = _by_seed(dump, mask)
        patients, groups = np.unique(dump.patients[fits[0]], return_inverse=True)
        weights = self._resampler.weights(patients)
        found = [main_metric(dump.truth[rows], dump.scores[rows], weights, groups) for rows in fits]
        return Score(
            metric=MAIN,
            replicates=np.mean(found, axis=0),
            n=len(fits[0]),
            patients=len(patients),
            modality=modality,
            seeds=len(fits),
        )

    def _ranks(self, dump: RankPredictions) -> list[Score]:
        everything = np.ones(len(dump.ranks), dtype=bool)
        scores = self._masked_ranks(dump, everything, ALL_ROWS)
        for modality, mask in _modalities(dump.modalities).items():
            scores += [
                score for score in self._masked_ranks(dump, mask, modality) if score.metric == MAIN_RANK
            ]
        return scores

    def _masked_ranks(self, dump: RankPredictions, mask: Mask, modality: str) -> list[Score]:
        patients, groups = np.unique(dump.patients[mask], return_inverse=True)
        found = rank_metrics(
            directions=dump.directions[mask],
            ranks=dump.ranks[mask],
            shares=dump.shares[mask],
            weights=self._resampler.weights(patients),
            groups=groups,
        )
        queries = _queries(dump, mask)
        return [
            Score(
                metric=metric,
                replicates=replicates,
                n=next(
                    (queries[name] for name in DIRECTIONS if metric.startswith(name)), sum(queries.values())
                ),
                patients=len(patients),
                modality=modality,
                main=metric == MAIN_RANK and modality == ALL_ROWS,
            )
            for metric, replicates in found.items()
        ]


def _modalities(modalities: Sequence[str]) -> Mapping[str, Mask]:
    """Mask of each known modality."""
    column = np.array(modalities, dtype=object)
    return {name: column == name for name in sorted(set(modalities) - {""})}


def _by_seed(dump: ClassPredictions, mask: Mask) -> list[NDArray[np.intp]]:
    """Rows of each seed's fit."""
    return [np.flatnonzero(mask & (dump.seeds == seed)) for seed in np.unique(dump.seeds[mask])]


def _queries(dump: RankPredictions, mask: Mask) -> dict[str, int]:
    return {
        name: len(np.unique(dump.rows[mask & (dump.directions == index)]))
        for index, name in enumerate(DIRECTIONS)
    }
