"""Out-of-fold risk and survival of every patient, with what weighting for censoring needs."""

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Resampler
from meddistill.evaluation.base.columns import (
    FactReaders,
    Layout,
    decimals,
    flags,
    texts,
    vectors,
    whole_numbers,
)
from meddistill.evaluation.base.exhibits import SurvivalCurve
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.score import Score, averages, by_modality, by_seed
from meddistill.evaluation.tasks.survival.curves import risk_group_curves
from meddistill.evaluation.tasks.survival.metrics import MAIN, RiskScores, concordance, survival_metrics

_FEW_EVENTS: Final = 10


@dataclass(frozen=True, kw_only=True)
class SurvivalPredictions(Predictions):
    """One row a patient, division into folds (`seeds`) and setting ("" images alone).

    `rows` is the first row of the table that has the patient. `times` are in `unit`s; `folds` number the test
    folds of a division, `strata` the cohorts (0 in a task without them); `grid` holds the times of `survival`
    and `censoring_at` [n, g], among them `horizons`. For the other columns see `RiskScores` in `metrics.py`.
    """

    kind: ClassVar[str] = "survival"
    layout: ClassVar[Layout] = {
        "settings": texts("setting"),
        "seeds": whole_numbers("seed"),
        "folds": whole_numbers("fold"),
        "strata": whole_numbers("stratum"),
        "times": decimals("time"),
        "events": flags("event"),
        "risks": decimals("risk"),
        "survival": vectors("survival"),
        "censoring": decimals("censoring"),
        "censoring_at": vectors("censoring_at"),
        "reach": decimals("reach"),
    }
    fact_readers: ClassVar[FactReaders] = {"unit": str, "horizons": tuple, "grid": tuple}

    unit: str
    horizons: tuple[float, ...]
    grid: tuple[float, ...]
    times: Floats
    events: Flags
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
        all_scores: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            all_scores += self._scores(resampler, settings == setting, setting=setting)
        for modality, mask in by_modality(self.modalities).items():
            if (mask & images).any():
                scores = self._scores(resampler, mask & images, main_only=True)
                all_scores += [replace(score, modality=modality, main=False) for score in scores]
        return all_scores

    def main_score(self, resampler: Resampler) -> Score | None:
        """The C-index from images alone, without the other metrics."""
        images = np.array([not setting for setting in self.settings], dtype=bool)
        return self._scores(resampler, images, main_only=True)[0] if images.any() else None

    def missing_in(self, mask: Flags) -> str:
        """Few events: a C-index of a handful of pairs."""
        counted = {row for row, event in zip(self.rows[mask], self.events[mask], strict=True) if event}
        if len(counted) >= _FEW_EVENTS:
            return ""
        return f"{len(counted)} event{'' if len(counted) == 1 else 's'}: a C-index of few pairs"

    def exhibits(self, model: str, task: str) -> tuple[SurvivalCurve, ...]:
        """Kaplan-Meier curves of the two risk groups, in the first division and from images alone."""
        first = np.array([not setting for setting in self.settings]) & (self.seeds == self.seeds.min())
        curves = risk_group_curves(self.risk_scores.take(first))
        return tuple(SurvivalCurve(model=model, task=task, unit=self.unit, **curve) for curve in curves)

    @property
    def risk_scores(self) -> RiskScores:
        """All rows, as the metrics take them."""
        columns = {each.name: getattr(self, each.name) for each in fields(RiskScores)}
        return RiskScores(**{**columns, "grid": np.array(self.grid)})

    def _scores(
        self, resampler: Resampler, mask: Flags, *, setting: str = "", main_only: bool = False
    ) -> list[Score]:
        divisions = by_seed(self.seeds, mask)
        by_division = [self._replicates(resampler, rows, main_only=main_only) for rows in divisions]
        patients = len(np.unique(self.patients[divisions[0]]))
        main = "" if setting else MAIN
        return averages(by_division, main=main, n=len(divisions[0]), patients=patients, setting=setting)

    def _replicates(self, resampler: Resampler, rows: Ints, *, main_only: bool) -> dict[str, Replicates]:
        risk_scores = self.risk_scores.take(rows)
        weights = resampler.weights(self.patients[rows]).astype(np.float64)
        if main_only:
            return {MAIN: concordance(risk_scores, weights)[MAIN]}
        return survival_metrics(risk_scores, weights, np.array(self.horizons))
