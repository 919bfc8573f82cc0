"""A score of every class for every row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from meddistill.arrays import Flags, Floats, Ints, Places
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, Weights
from meddistill.evaluation.base.columns import FactReaders, Layout, texts, vectors, whole_numbers
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.predictions import Decisions, Predictions, Rate, as_it_is
from meddistill.evaluation.base.results import ALL_ROWS
from meddistill.evaluation.base.score import NOT_DEFINED, Score, averaged, averages, by_modality, by_seed
from meddistill.evaluation.tasks.classification.calibration import (
    CALIBRATION,
    TEMPERED,
    at_bound,
    calibration_metrics,
    fit_temperature,
    tempered,
)
from meddistill.evaluation.tasks.classification.config import OperatingPoint, points
from meddistill.evaluation.tasks.classification.metrics import (
    MAIN,
    auc_metric,
    class_metrics,
    main_metric,
    predicted_share,
)
from meddistill.evaluation.tasks.classification.operating import at_youden_point
from meddistill.evaluation.tasks.classification.operating_points import (
    MEASURES,
    at_threshold,
    setting_of,
    threshold,
)
from meddistill.evaluation.tasks.classification.pictures import class_exhibits

VALIDATION: Final = "validation rows"
BARE: Final = "bare cosines"  # of zero-shot classes: probabilities without the logit scale

Measure = Callable[[Places, Weights, Ints], Mapping[str, Replicates]]


@dataclass(frozen=True, kw_only=True)
class ClassPredictions(Predictions):
    """Scores of every class for every row.

    `scores` [n, C] float64 (float32 rounds sure probabilities to 1 and so makes ties), `truth` [n] index into
    `classes`. A task that predicts the same rows several times tells them apart by `settings` ("" for the
    main one) and `seeds`; under `BARE` only the area under the curves is told. Rows of the setting
    `VALIDATION` are those of the validation table, with negative `rows`: they are not tested, but
    temperature and thresholds of the main setting (of the same seed) are fitted on them.

    `probabilities` says that scores are meant as such, so that calibration can be measured; `ordinal` that
    the order of the classes means something; `positive` which class `operating_points` are about.
    """

    kind: ClassVar[str] = "classes"
    layout: ClassVar[Layout] = {
        "settings": texts("setting"),
        "seeds": whole_numbers("seed"),
        "truth_names": texts("truth"),
        "scores": vectors("scores"),
    }
    fact_readers: ClassVar[FactReaders] = {
        "classes": tuple,
        "probabilities": bool,
        "ordinal": bool,
        "positive": as_it_is,
        "operating_points": points,
    }

    classes: tuple[str, ...]
    truth: Ints
    scores: Floats
    settings: tuple[str, ...]
    seeds: Ints
    probabilities: bool = False
    ordinal: bool = False
    positive: str | None = None
    operating_points: tuple[OperatingPoint, ...] = ()

    @property
    def main(self) -> "ClassPredictions":
        """The rows of the main setting alone."""
        return self.of_setting("")

    @property
    def validation(self) -> "ClassPredictions | None":
        """The rows of the validation table; None without one."""
        return self.of_setting(VALIDATION) if VALIDATION in self.settings else None

    def of_setting(self, setting: str) -> "ClassPredictions":
        """The rows of one setting alone."""
        kept = np.flatnonzero(self._mask(setting))
        return self if len(kept) == len(self.rows) else self.take(kept)

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics of every setting, and the main metric by modality."""
        scores: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            if setting != VALIDATION:
                scores += self._setting(resampler, setting)
        scores += [*self._temperature(resampler), *self._operating(resampler)]
        main = self._mask("")
        return scores + [
            self._modality(resampler, mask & main, modality)
            for modality, mask in by_modality(self.modalities).items()
            if (mask & main).any()
        ]

    def temperatures(self) -> dict[int, float]:
        """Seed of the main setting → the temperature fitted on validation; empty without one."""
        validation = self.validation
        if validation is None or not self.probabilities:
            return {}
        return {
            int(validation.seeds[rows[0]]): fit_temperature(validation.truth[rows], validation.scores[rows])
            for rows in by_seed(validation.seeds)
        }

    def warnings(self) -> tuple[str, ...]:
        """Whether the temperature is a bound of its search."""
        bound = at_bound(self.temperatures().values())
        return (f"not calibrated: {bound}",) if bound else ()

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """ROC curves, calibration before and after temperature, and the confusion matrix."""
        return class_exhibits(self, model=model, task=task)

    def main_score(self, resampler: Resampler) -> Score | None:
        """Balanced accuracy of the main setting alone."""
        main = self._mask("")
        return replace(self._modality(resampler, main, ALL_ROWS), main=True) if main.any() else None

    def rates(self) -> Mapping[str, Rate]:
        """Recall of both classes of a two-class task at the Youden point of all rows; see `operating.py`."""
        if len(self.classes) != 2:
            return {}
        main = self._mask("")
        second = at_youden_point(self.truth, self.scores[:, 1], main, self.seeds)
        return {
            f"recall of {name} at the Youden point": Rate(
                relevant=main & (self.truth == index), hit=second == bool(index)
            )
            for index, name in enumerate(self.classes)
        }

    def missing_in(self, mask: Flags) -> str:
        """Classes that other rows have: balanced accuracy is then a mean over fewer classes."""
        main = self._mask("")
        missing = sorted(set(self.truth[main].tolist()) - set(self.truth[main & mask].tolist()))
        return f"no rows of {', '.join(self.classes[index] for index in missing)}" if missing else ""

    def decisions(self) -> Decisions | None:
        """Rows of the main setting whose one highest score is the true class's; None with several seeds."""
        main = self._mask("")
        if not main.any() or len(np.unique(self.seeds[main])) > 1:
            return None
        right = predicted_share(self.scores[main])[np.arange(main.sum()), self.truth[main]] == 1
        return Decisions(rows=self.rows[main], patients=self.patients[main], right=right)

    @property
    def truth_names(self) -> list[str]:
        """The true class of every row."""
        return [self.classes[index] for index in self.truth]

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the layout, and the class numbers."""
        fields = super().own_fields(table, facts)
        index = {name: number for number, name in enumerate(fields["classes"])}
        truth = np.array([index[name] for name in fields.pop("truth_names")], dtype=np.int64)
        return {**fields, "truth": truth}

    def _setting(self, resampler: Resampler, setting: str) -> list[Score]:
        """Metrics of one setting; calibration is measured for the main one alone."""
        calibrated = self.probabilities and not setting

        def measure(rows: Places, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            truth, scores = self.truth[rows], self.scores[rows]
            if setting == BARE:  # nothing else depends on the scale, or is meant to be read without it
                return {"auc": auc_metric(truth, scores, weights, groups)}
            metrics = class_metrics(truth, scores, weights, groups, ordinal=self.ordinal)
            return metrics | calibration_metrics(truth, scores, weights, groups) if calibrated else metrics

        return self._measured(resampler, self._mask(setting), measure, setting)

    def _temperature(self, resampler: Resampler) -> list[Score]:
        """What the temperature changes: calibration, and the area under the curves of several classes."""
        temperatures = self.temperatures()
        if not temperatures:
            return []

        def measure(rows: Places, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            truth = self.truth[rows]
            scores = tempered(self.scores[rows], temperatures[int(self.seeds[rows[0]])])
            auc = auc_metric(truth, scores, weights, groups)
            return {"auc": auc, **calibration_metrics(truth, scores, weights, groups)}

        bound = at_bound(temperatures.values())
        if bound:
            names = ("auc", *CALIBRATION, "temperature")
            return undefined(names, self.main, setting=TEMPERED, why=bound)
        patients = self.patients[self._mask(VALIDATION)]
        fitted = unresampled("temperature", list(temperatures.values()), patients, setting=TEMPERED)
        return [*self._measured(resampler, self._mask(""), measure, TEMPERED), fitted]

    def _operating(self, resampler: Resampler) -> list[Score]:
        if self.positive is None:
            return []
        column = self.classes.index(self.positive)
        fitted = self.validation or self.main
        scores: list[Score] = []
        for point in self.operating_points:
            setting = setting_of(point, on_validation=self.validation is not None)
            chosen = {
                int(fitted.seeds[rows[0]]): threshold(
                    fitted.truth[rows] == column, fitted.scores[rows, column], point
                )
                for rows in by_seed(fitted.seeds)
            }
            held = {seed: value for seed, value in chosen.items() if value is not None}
            if len(held) < len(chosen):
                role = "validation" if self.validation is not None else ""
                why = one_class_only(fitted.truth, self.classes, role=role)
                scores += undefined(("threshold", *MEASURES), self.main, setting=setting, why=why)
                continue

            def measure(
                rows: Places, weights: Weights, groups: Ints, held: Mapping[int, float] = held
            ) -> Mapping[str, Replicates]:
                called = self.scores[rows, column] >= held[int(self.seeds[rows[0]])]
                return at_threshold(self.truth[rows] == column, called, weights, groups)

            scores.append(unresampled("threshold", list(held.values()), fitted.patients, setting=setting))
            scores += self._measured(resampler, self._mask(""), measure, setting)
        return scores

    def _modality(self, resampler: Resampler, mask: Flags, modality: str) -> Score:
        def measure(rows: Places, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            return {MAIN: main_metric(self.truth[rows], self.scores[rows], weights, groups)}

        (score,) = self._measured(resampler, mask, measure, "")
        return replace(score, modality=modality, spread=None, main=False)

    def _measured(self, resampler: Resampler, mask: Flags, measure: Measure, setting: str) -> list[Score]:
        """What `measure` finds, averaged over the seeds of the rows in `mask`, resample by resample."""
        fits = by_seed(self.seeds, mask)
        patients, groups = np.unique(self.patients[fits[0]], return_inverse=True)
        weights = resampler.weights(patients)
        by_fit = [measure(rows, weights, groups) for rows in fits]
        main = "" if setting else MAIN
        return averages(by_fit, main=main, n=len(fits[0]), patients=len(patients), setting=setting)

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


def one_class_only(truth: Ints, classes: Sequence[str], *, role: str = "") -> str:
    """Words for rows (of `role`, "" for the tested ones) that are all of one class; "" where they are not."""
    there = np.unique(truth)
    return f"all {role or 'tested'} rows are of {classes[int(there[0])]}" if len(there) == 1 else ""
