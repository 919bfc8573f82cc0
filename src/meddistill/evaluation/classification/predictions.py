"""A score of every class for every row."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddistill.evaluation.classification.metrics import MAIN, class_metrics, main_metric, predicted_share
from meddistill.evaluation.classification.operating import at_youden_point
from meddistill.evaluation.predictions import Decisions, Ints, Predictions, Rate, numbers, words
from meddistill.evaluation.results import ALL_ROWS
from meddistill.evaluation.score import Mask, Score, by_modality
from meddistill.evaluation.statistics.bootstrap import Resampler


@dataclass(frozen=True, kw_only=True)
class ClassPredictions(Predictions):
    """Scores of every class for every row.

    `scores` [n, C] float64 (float32 rounds sure probabilities to 1 and so makes ties), `truth` [n] index into
    `classes`. A task that predicts the same rows several times tells them apart by `settings` ("" for the
    main one) and `seeds`.
    """

    kind: ClassVar[str] = "classes"

    classes: tuple[str, ...]
    truth: Ints
    scores: NDArray[np.float64]
    settings: tuple[str, ...]
    seeds: Ints

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics of every setting, and the main metric by modality."""
        settings = np.array(self.settings, dtype=object)
        found: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            found += self._setting(resampler, settings == setting, setting)
        return found + [
            self._modality(resampler, mask & (settings == ""), modality)
            for modality, mask in by_modality(self.modalities).items()
            if (mask & (settings == "")).any()
        ]

    def main_score(self, resampler: Resampler) -> Score | None:
        """Balanced accuracy of the main setting alone."""
        main = self._main()
        return replace(self._modality(resampler, main, ALL_ROWS), main=True) if main.any() else None

    def rates(self) -> Mapping[str, Rate]:
        """Recall of both classes of a two-class task at the Youden point of all rows; see `operating.py`."""
        if len(self.classes) != 2:
            return {}
        main = self._main()
        second = at_youden_point(self.truth, self.scores[:, 1], main, self.seeds)
        return {
            f"recall of {name} at the Youden point": Rate(
                relevant=main & (self.truth == index), hit=second == bool(index)
            )
            for index, name in enumerate(self.classes)
        }

    def lacks(self, mask: Mask) -> str:
        """Classes that other rows have: balanced accuracy is then a mean over fewer classes."""
        lacking = sorted(set(self.truth.tolist()) - set(self.truth[mask].tolist()))
        return f"no rows of {', '.join(self.classes[index] for index in lacking)}" if lacking else ""

    def decisions(self) -> Decisions | None:
        """Rows of the main setting whose one highest score is the true class's; None with several seeds."""
        main = self._main()
        if not main.any() or len(np.unique(self.seeds[main])) > 1:
            return None
        right = predicted_share(self.scores[main])[np.arange(main.sum()), self.truth[main]] == 1
        return Decisions(rows=self.rows[main], patients=self.patients[main], right=right)

    def facts(self) -> Mapping[str, Any]:
        """The classes."""
        return {"classes": list(self.classes)}

    def columns(self) -> Mapping[str, pa.Array]:
        """Setting, seed, true class and scores."""
        flat = pa.array(np.ascontiguousarray(self.scores, dtype=np.float64).reshape(-1))
        return {
            "setting": words(self.settings),
            "seed": pa.array(self.seeds, pa.int64()),
            "truth": words([self.classes[index] for index in self.truth]),
            "scores": pa.FixedSizeListArray.from_arrays(flat, len(self.classes)),
        }

    @classmethod
    def from_columns(cls, table: pa.Table, facts: Mapping[str, Any], identity: Mapping[str, Any]) -> Self:
        """The record again."""
        classes = tuple(facts["classes"])
        index = {name: number for number, name in enumerate(classes)}
        flat = table["scores"].combine_chunks().flatten().to_numpy()
        return cls(
            classes=classes,
            truth=np.array([index[name] for name in table["truth"].to_pylist()], dtype=np.int64),
            scores=flat.reshape(len(table), len(classes)),
            settings=tuple(table["setting"].to_pylist()),
            seeds=numbers(table, "seed"),
            **identity,
        )

    def _main(self) -> Mask:
        return np.array(self.settings, dtype=object) == ""

    def _setting(self, resampler: Resampler, mask: Mask, setting: str) -> list[Score]:
        """Metrics of one setting, averaged over its seeds resample by resample."""
        fits = self._by_seed(mask)
        patients, groups = np.unique(self.patients[fits[0]], return_inverse=True)
        weights = resampler.weights(patients)
        found = [class_metrics(self.truth[rows], self.scores[rows], weights, groups) for rows in fits]
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

    def _modality(self, resampler: Resampler, mask: Mask, modality: str) -> Score:
        fits = self._by_seed(mask)
        patients, groups = np.unique(self.patients[fits[0]], return_inverse=True)
        weights = resampler.weights(patients)
        found = [main_metric(self.truth[rows], self.scores[rows], weights, groups) for rows in fits]
        return Score(
            metric=MAIN,
            replicates=np.mean(found, axis=0),
            n=len(fits[0]),
            patients=len(patients),
            modality=modality,
            seeds=len(fits),
        )

    def _by_seed(self, mask: Mask) -> list[NDArray[np.intp]]:
        """Rows of each seed's fit."""
        return [np.flatnonzero(mask & (self.seeds == seed)) for seed in np.unique(self.seeds[mask])]
