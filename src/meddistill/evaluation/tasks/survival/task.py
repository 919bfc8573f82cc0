"""Survival from frozen image embeddings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.errors import ConfigError
from meddistill.evaluation.base.lazily import Lazily
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.bags.stored import file_facts, other_inputs, stored_files
from meddistill.evaluation.tasks.survival.cohort import Cohort, read_cohort
from meddistill.evaluation.tasks.survival.config import SurvivalConfig
from meddistill.evaluation.tasks.survival.features import (
    Block,
    clinical_block,
    image_block,
    pooled,
    side_by_side,
)
from meddistill.evaluation.tasks.survival.fitting import Outcomes, OutOfFold, out_of_fold
from meddistill.evaluation.tasks.survival.kaplan_meier import median_follow_up
from meddistill.evaluation.tasks.survival.metrics import MAIN
from meddistill.evaluation.tasks.survival.plan import Plan, make_plan
from meddistill.evaluation.tasks.survival.predictions import SurvivalPredictions
from meddistill.evaluation.tasks.survival.slides import Slides, mean_features, read_slides

WITH_CLINICAL: Final = "with clinical columns"
CLINICAL_ONLY: Final = "clinical only"
RANDOM_FEATURES: Final = "random features"
FEW_EVENTS: Final = 20
_RANDOM_WIDTH: Final = 512


@final
class Survival(Task[SurvivalConfig, SurvivalPredictions]):
    """A survival head on frozen image embeddings, by cross-validation over patients.

    One vector a patient (the mean of the normalised embeddings of all images), standardised and reduced to
    principal components, then a ridge-penalised Cox model or logistic hazards. All of it is learnt on the
    training patients of a fold; every patient is ranked by a head that did not see it, in each of `repeats`
    divisions into folds. There is no training table: cohorts with few events cannot spare one.

    With `strata` nothing compares or mixes patients of two cohorts but the coefficients, which are common:
    features are less their mean in the cohort, the likelihood and the baseline hazards (of the discrete head,
    the intercepts), G, pairs, risk groups and the log-rank test are those of cohorts.

    Embeddings that say nothing of the outcome do not score one half but often less: whatever makes the
    training patients of a fold differ by chance, the fold's own differ the other way round. So a C-index is
    to be read beside that of random features, and one clearly below a half as no signal.
    """

    libraries = ("scikit-learn",)
    needs_text = False
    beside = frozenset({"stored"})
    main = MAIN

    @cached_property
    def cohort(self) -> Cohort:
        """The patients. Raises TableError for rows that cannot be read."""
        return read_cohort(self.tested, self.config)

    @cached_property
    def plan(self) -> Plan:
        """Folds and times. Raises ConfigError for horizons outside the follow-up, and for a single site."""
        return make_plan(self.cohort, self.config)

    @cached_property
    def slides(self) -> Slides:
        """What has stored features. Raises TableError for blank slides, and for those of several patients."""
        return read_slides(self.tested, self.cohort.of_row, self.config.slide)

    @property
    def unit_ids(self) -> Ints:
        """The patient of every row."""
        return self.cohort.of_row

    def check(self) -> None:
        """Raise TableError for rows that cannot be read, and for absent files of stored features.

        Raises ConfigError for a plan that the rows do not allow, and for fewer events than folds.
        """
        make_plan(self.cohort, self.config)
        for name in self.config.stored:
            self._files(name)
        events, folds = int(self.cohort.events.sum()), self.config.folds
        if events < folds:
            rule = (
                f"`folds` must be no more than the events, one a fold; got {events} "
                f"event{'' if events == 1 else 's'} among {len(self.cohort)} patients in {folds} folds. Take "
                "fewer folds, longer follow-up or another event."
            )
            raise ConfigError(self.config.subject, [rule])

    def predict(self, embeddings: Embeddings) -> SurvivalPredictions:
        """Out of fold, from images alone and, where there are clinical columns, from both."""
        cohort, part = self.cohort, self.tested
        embedded = embeddings.images(part.samples, part.keys)
        return self._of_features(pooled(embedded, cohort.of_row, len(cohort), self.config.pooling))

    def _of_features(self, features: Floats) -> SurvivalPredictions:
        """From one vector a patient, [patients, d]."""
        blocks = {"": [self._images(features)] * self.config.repeats}
        if self.cohort.clinical:
            both = side_by_side(blocks[""][0], self._clinical())
            blocks[WITH_CLINICAL] = [both] * self.config.repeats
        return self._cross_validate(blocks)

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[SurvivalPredictions],
    ) -> SurvivalPredictions:
        """The mean of the members' risks, each standardised within its fold, and of their survival.

        In a stratified task risks are first taken less their mean in the fold's patients of the stratum.
        """
        first = predictions[0]
        settings = np.array(first.settings, dtype=object)
        risks = np.zeros(len(first.risks))
        for setting in dict.fromkeys(first.settings):
            for seed in np.unique(first.seeds):
                for fold in np.unique(first.folds):
                    rows = (settings == setting) & (first.seeds == seed) & (first.folds == fold)
                    strata = first.strata[rows]
                    own = [standardized(each.risks[rows], strata) for each in predictions]
                    risks[rows] = np.mean(own, axis=0)
        survival = np.mean([each.survival for each in predictions], axis=0)
        return self._predictions(first.settings, OutOfFold(risks=risks, survival=survival))

    def baselines(self) -> Mapping[str, SurvivalPredictions]:
        """The same head and folds without images: clinical columns alone, random features, stored features.

        Random features are one Gaussian vector a patient and division, reduced like embeddings: what a
        C-index owes to the folds and to luck. One draw for all divisions would leave its own luck in their
        mean.
        """
        repeats = self.config.repeats
        made: dict[str, Callable[[], SurvivalPredictions]] = {}
        if self.cohort.clinical:
            made[CLINICAL_ONLY] = lambda: self._cross_validate({"": [self._clinical()] * repeats})
        made[RANDOM_FEATURES] = lambda: self._cross_validate(
            {"": [self._random(each) for each in range(repeats)]}
        )
        return Lazily({**made, **{name: partial(self._of_stored, name) for name in self.config.stored}})

    def _of_stored(self, name: str) -> SurvivalPredictions:
        return self._of_features(mean_features(name, self._files(name), self.slides, len(self.cohort)))

    def _files(self, name: str) -> list[Path]:
        slides, folder = self.slides, self.config.stored[name]
        return stored_files(self.tested, name, folder, bags=slides.names, rows=slides.rows, what="slide")

    def of_baseline(self, name: str) -> Sequence[str]:
        """The name, and size and time of every file of stored features."""
        return (name, *file_facts(self._files(name) if name in self.config.stored else ()))

    def _images(self, features: Floats) -> Block:
        return image_block(features, self.config.components, self._strata)

    def _clinical(self) -> Block:
        return clinical_block(self.cohort.clinical, self._strata)

    def _random(self, division: int) -> Block:
        generator = np.random.default_rng((self.config.seed, division))
        return self._images(generator.normal(size=(len(self.cohort), _RANDOM_WIDTH)))

    @property
    def _strata(self) -> Ints | None:
        return None if self.config.strata is None else self.cohort.strata

    def facts(self) -> dict[str, Any]:
        """The size of the cohort, its follow-up, and how it was divided."""
        cohort, plan, config = self.cohort, self.plan, self.config
        events = int(cohort.events.sum())
        known = {
            "cohort": len(cohort),
            "events": events,
            "median_follow_up": median_follow_up(cohort.times, cohort.events),
            "unit": config.unit,
            "head": config.head,
            "folds": len(np.unique(plan.folds[0])),
            "repeats": config.repeats,
            "horizons": plan.horizons.tolist(),
            "strata": None if config.strata is None else len(np.unique(cohort.strata)),
            "sites": None if cohort.sites is None else len(set(cohort.sites)),
            "chance": 0.5,
        }
        return {**known, "warnings": list(self._warnings(events))}

    def _warnings(self, events: int) -> Iterator[str]:
        cohort, plan = self.cohort, self.plan
        if events < FEW_EVENTS:
            yield f"{events} events among {len(cohort)} patients: a C-index is uncertain by 0.1 and more"
        if plan.strangers:
            yield (
                f"{plan.strangers} patients have a stratum without training patients in a division: hazard "
                "and censoring of all strata stand for theirs"
            )
        if self.config.stored:
            yield from other_inputs(
                self.config.stored, pictures=len(self.tested), bags=len(self.slides.names)
            )
        beyond = (plan.reach <= plan.grid[-1]).sum(axis=1).max()
        if self.config.strata is not None and len(plan.horizons) and beyond:
            yield (
                f"{beyond} patients are of strata whose follow-up ends before {plan.grid[-1]:g} "
                f"{self.config.unit}: left out of the AUC at later times and of the integrated Brier score"
            )

    def _cross_validate(self, blocks: Mapping[str, Sequence[Block]]) -> SurvivalPredictions:
        """Out of fold in every division, for every setting and its features in each division."""
        cohort, plan = self.cohort, self.plan
        settings: list[str] = []
        parts: list[OutOfFold] = []
        known = Outcomes(times=cohort.times, events=cohort.events, strata=cohort.strata, sites=cohort.sites)
        for setting, own in blocks.items():
            for block, folds in zip(own, plan.folds, strict=True):
                parts.append(out_of_fold(block, known, folds=folds, grid=plan.grid, config=self.config))
                settings += [setting] * len(cohort)
        together = OutOfFold(
            risks=np.concatenate([each.risks for each in parts]),
            survival=np.concatenate([each.survival for each in parts]),
        )
        return self._predictions(settings, together)

    def _predictions(self, settings: Sequence[str], predicted: OutOfFold) -> SurvivalPredictions:
        """The record of `found`: patients, within divisions, within settings."""
        cohort, plan = self.cohort, self.plan
        divisions = len(plan.folds)
        times = len(settings) // (divisions * len(cohort))
        again = times * divisions
        return SurvivalPredictions(
            unit=self.config.unit,
            horizons=tuple(plan.horizons.tolist()),
            grid=tuple(plan.grid.tolist()),
            times=np.tile(cohort.times, again),
            events=np.tile(cohort.events, again),
            risks=predicted.risks,
            survival=predicted.survival,
            folds=np.tile(plan.folds.reshape(-1), times),
            strata=np.tile(cohort.strata, again),
            seeds=np.tile(np.repeat(np.arange(divisions), len(cohort)), times),
            settings=tuple(settings),
            censoring=np.tile(plan.censoring.reshape(-1), times),
            censoring_at=np.tile(plan.censoring_at.reshape(-1, len(plan.grid)), (times, 1)),
            reach=np.tile(plan.reach.reshape(-1), times),
            **self._identity(cohort.first, times=again),
        )


def standardized(risks: Floats, strata: Ints) -> Floats:
    """Less their mean in each stratum, divided by the standard deviation of the rest; zero where it is 0."""
    counts = np.maximum(np.bincount(strata), 1)
    centred = risks - (np.bincount(strata, weights=risks) / counts)[strata]
    spread = float(centred.std())
    return centred / spread if spread > 0 else np.zeros_like(risks)
