"""What predictions of classes and of labels have alike: scores of rows, by setting and seed."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, Weights
from meddistill.evaluation.base.columns import Layout, texts, whole_numbers
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.score import NOT_DEFINED, Score, averaged, averages, by_modality, by_seed
from meddistill.evaluation.tasks.classification.config import OperatingPoint
from meddistill.evaluation.tasks.classification.operating_points import (
    MEASURES,
    at_threshold,
    setting_of,
    threshold,
)

VALIDATION: Final = "validation rows"
REPEATS: Final[Layout] = {"settings": texts("setting"), "seeds": whole_numbers("seed")}

_Metrics = Mapping[str, Replicates]


@dataclass(frozen=True, kw_only=True)
class ScorePredictions(Predictions):
    """Scores [n, k] float64 of every row for every class or label, and its truth.

    A task that predicts the same rows several times tells them apart by `settings` ("" for the main one) and
    `seeds`; rows and truth are the same for every seed of a setting. Rows of the setting `VALIDATION` are
    those of the validation table, with negative `rows`: they are not tested, but temperatures and thresholds
    of the main setting (of the same seed) are fitted on them. `probabilities` says that scores are meant as
    such, so that calibration can be measured.
    """

    truth: Ints
    scores: Floats
    settings: tuple[str, ...]
    seeds: Ints
    probabilities: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()

    @property
    def main(self) -> Self:
        """The rows of the main setting alone."""
        return self.of_setting("")

    @property
    def validation(self) -> Self | None:
        """The rows of the validation table; None without one."""
        return self.of_setting(VALIDATION) if VALIDATION in self.settings else None

    def of_setting(self, setting: str) -> Self:
        """The rows of one setting alone."""
        kept = np.flatnonzero(self._mask(setting))
        return self if len(kept) == len(self.rows) else self.take(kept)

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics of every setting, what is fitted on validation, and the main metric by modality."""
        scores: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            if setting != VALIDATION:
                scores += self._setting(resampler, setting)
        scores += self._temperature(resampler)
        operated = self._operated() if self.operating_points else {}
        for column, label in operated.items():
            scores += self._at_points(resampler, column, label)
        main = self.main
        for modality, mask in by_modality(main.modalities).items():
            score = main.take(mask)._main_metric(resampler)
            scores.append(replace(score, modality=modality, spread=None, main=False))
        return scores

    def main_score(self, resampler: Resampler) -> Score | None:
        """The main metric of the main setting alone."""
        return self.main._main_metric(resampler) if "" in self.settings else None

    @abstractmethod
    def _setting(self, resampler: Resampler, setting: str) -> list[Score]:
        """Metrics of one setting."""

    @abstractmethod
    def _temperature(self, resampler: Resampler) -> list[Score]:
        """What temperatures that are fitted on validation change."""

    @abstractmethod
    def _main_metric(self, resampler: Resampler) -> Score:
        """The main metric of these rows, all of one setting."""

    @abstractmethod
    def _operated(self) -> Mapping[int, str]:
        """The columns of `scores` that have operating points, each with its name in settings."""

    @abstractmethod
    def _known(self, column: int) -> tuple[Self, Flags]:
        """The rows whose truth of a column is known, and which of them are positive."""

    @abstractmethod
    def _one_sided(self, column: int, role: str) -> str:
        """Words for these rows (of `role`) where they lack positive or negative ones of a column; else ""."""

    def _at_points(self, resampler: Resampler, column: int, label: str) -> Iterator[Score]:
        """Thresholds of one column, and what they lead to on the tested rows."""
        fits, role = self.main._fits(), "tested"
        main = [fit._known(column) for fit in fits]
        if self.validation is not None:
            fits, role = self.validation._fits(), "validation"
        fitted = [fit._known(column) for fit in fits]
        for point in self.operating_points:
            setting = setting_of(point, on_validation=role == "validation", label=label)
            held = [threshold(positive, rows.scores[:, column], point) for rows, positive in fitted]
            values = [each for each in held if each is not None]
            if len(values) < len(held):
                why = fits[0]._one_sided(column, role)
                yield from undefined(("threshold", *MEASURES), main[0][0], setting=setting, why=why)
                continue
            patients = np.concatenate([rows.patients for rows, _ in fitted])
            yield unresampled("threshold", values, patients, setting=setting)
            by_fit = [
                at_threshold(positive, rows.scores[:, column] >= value, *rows._weights(resampler))
                for (rows, positive), value in zip(main, values, strict=True)
            ]
            yield from main[0][0]._averages(by_fit, setting=setting)

    def _averages(self, fits: Sequence[_Metrics], *, setting: str, main: str = "") -> list[Score]:
        """Means over `fits` of metrics of these rows; `main` names the main one."""
        n, patients = len(self.rows), len(np.unique(self.patients))
        return averages(fits, main=main, n=n, patients=patients, setting=setting)

    def _fits(self) -> list[Self]:
        """The rows of each seed."""
        return [self.take(rows) for rows in by_seed(self.seeds)]

    def _weights(self, resampler: Resampler) -> tuple[Weights, Ints]:
        """Weights of the patients in every resample, and which of these each row belongs to."""
        patients, groups = np.unique(self.patients, return_inverse=True)
        return resampler.weights(patients), groups

    def _mask(self, setting: str) -> Flags:
        return np.array(self.settings, dtype=object) == setting


def unresampled(metric: str, values: Sequence[float], patients: Ints, *, setting: str) -> Score:
    """A number fitted on rows of `patients`, once a value; held in all resamples, so without an interval."""
    fits = [np.array([value]) for value in values]
    n, people = len(patients) // len(values), len(np.unique(patients))
    return averaged(metric, fits, n=n, patients=people, setting=setting)


def undefined(metrics: Iterable[str], tested: Predictions, *, setting: str, why: str) -> list[Score]:
    """Scores without a value on the `tested` rows, which say why."""
    return [
        Score(
            metric=metric,
            replicates=np.array([np.nan]),
            n=len(np.unique(tested.rows)),
            patients=len(np.unique(tested.patients)),
            setting=setting,
            note=NOT_DEFINED + why,
        )
        for metric in metrics
    ]
