"""Out-of-fold risk and survival of every patient, with what weighting for censoring needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddistill.evaluation.base.bootstrap import Replicates, Resampler
from meddistill.evaluation.base.exhibits import SurvivalCurve
from meddistill.evaluation.base.predictions import Ints, Predictions, lists, matrix, numbers, words
from meddistill.evaluation.base.score import Mask, Score, averaged, by_modality, by_seed
from meddistill.evaluation.tasks.survival.curves import risk_group_curves
from meddistill.evaluation.tasks.survival.metrics import MAIN, RiskScores, concordance, survival_metrics

Floats = NDArray[np.float64]


_FEW_EVENTS: Final = 10


@dataclass(frozen=True, kw_only=True)
class SurvivalPredictions(Predictions):
    """One row a patient, division into folds (`seeds`) and setting ("" images alone).

    `rows` is the first row of the table that has the patient. `times` are in `unit`s; `folds` number the test
    folds of a division, `strata` the cohorts (0 in a task without them); `grid` holds the times of `survival`
    and `censoring_at` [n, g], among them `horizons`. For the other columns see `RiskScores` in `metrics.py`.
    """

    kind: ClassVar[str] = "survival"

    unit: str
    horizons: tuple[float, ...]
    grid: tuple[float, ...]
    times: Floats
    events: NDArray[np.bool_]
    risks: Floats
    survival: Floats
    folds: Ints
    strata: Ints
    seeds: Ints
    settings: tuple[str, ...]
    censoring: Floats
    censoring_at: Floats
    reach: Floats

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics of every setting, averaged over divisions, and the main metric by modality."""
        settings = np.array(self.settings, dtype=object)
        images = settings == ""
        found: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            found += self._scores(resampler, settings == setting, setting=setting)
        for modality, mask in by_modality(self.modalities).items():
            if (mask & images).any():
                scores = self._scores(resampler, mask & images, main_only=True)
                found += [replace(score, modality=modality, main=False) for score in scores]
        return found

    def main_score(self, resampler: Resampler) -> Score | None:
        """The C-index from images alone, without the other metrics."""
        images = np.array([not setting for setting in self.settings], dtype=bool)
        return self._scores(resampler, images, main_only=True)[0] if images.any() else None

    def lacks(self, mask: Mask) -> str:
        """Few events: a C-index of a handful of pairs."""
        counted = {row for row, event in zip(self.rows[mask], self.events[mask], strict=True) if event}
        if len(counted) >= _FEW_EVENTS:
            return ""
        return f"{len(counted)} event{'' if len(counted) == 1 else 's'}: a C-index of few pairs"

    def exhibits(self, model: str, task: str) -> tuple[SurvivalCurve, ...]:
        """Kaplan-Meier curves of the two risk groups, in the first division and from images alone."""
        first = np.array([not setting for setting in self.settings]) & (self.seeds == self.seeds.min())
        curves = risk_group_curves(self.judged.take(first))
        return tuple(SurvivalCurve(model=model, task=task, unit=self.unit, **curve) for curve in curves)

    @property
    def judged(self) -> RiskScores:
        """All rows, as the metrics take them."""
        return RiskScores(
            times=self.times,
            events=self.events,
            risks=self.risks,
            folds=self.folds,
            strata=self.strata,
            reach=self.reach,
            censoring=self.censoring,
            survival=self.survival,
            censoring_at=self.censoring_at,
            grid=np.array(self.grid),
        )

    def facts(self) -> Mapping[str, Any]:
        """Unit and times."""
        return {"unit": self.unit, "horizons": list(self.horizons), "grid": list(self.grid)}

    def columns(self) -> Mapping[str, pa.Array]:
        """Setting, division, fold, outcome, what was predicted, and G."""
        return {
            "setting": words(self.settings),
            "seed": pa.array(self.seeds, pa.int64()),
            "fold": pa.array(self.folds, pa.int64()),
            "stratum": pa.array(self.strata, pa.int64()),
            "time": pa.array(self.times, pa.float64()),
            "event": pa.array(self.events, pa.bool_()),
            "risk": pa.array(self.risks, pa.float64()),
            "survival": lists(self.survival.astype(np.float64)),
            "censoring": pa.array(self.censoring, pa.float64()),
            "censoring_at": lists(self.censoring_at.astype(np.float64)),
            "reach": pa.array(self.reach, pa.float64()),
        }

    @classmethod
    def from_columns(cls, table: pa.Table, facts: Mapping[str, Any], identity: Mapping[str, Any]) -> Self:
        """The record again."""
        return cls(
            unit=facts["unit"],
            horizons=tuple(facts["horizons"]),
            grid=tuple(facts["grid"]),
            times=numbers(table, "time"),
            events=np.array(table["event"].to_pylist(), dtype=bool),
            risks=numbers(table, "risk"),
            survival=matrix(table, "survival"),
            folds=numbers(table, "fold"),
            strata=numbers(table, "stratum"),
            seeds=numbers(table, "seed"),
            settings=tuple(table["setting"].to_pylist()),
            censoring=numbers(table, "censoring"),
            censoring_at=matrix(table, "censoring_at"),
            reach=numbers(table, "reach"),
            **identity,
        )

    def _scores(
        self, resampler: Resampler, mask: Mask, *, setting: str = "", main_only: bool = False
    ) -> list[Score]:
        divisions = by_seed(self.seeds, mask)
        found = [self._replicates(resampler, rows, main_only=main_only) for rows in divisions]
        return [
            averaged(
                metric,
                [each[metric] for each in found],
                n=len(divisions[0]),
                patients=len(np.unique(self.patients[divisions[0]])),
                setting=setting,
                main=metric == MAIN and not setting,
            )
            for metric in found[0]
        ]

    def _replicates(self, resampler: Resampler, rows: Ints, *, main_only: bool) -> dict[str, Replicates]:
        judged = self.judged.take(rows)
        weights = resampler.weights(self.patients[rows]).astype(np.float64)
        if main_only:
            return {MAIN: concordance(judged, weights)[MAIN]}
        return survival_metrics(judged, weights, np.array(self.horizons))
