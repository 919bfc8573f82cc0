"""A score of every class for every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa

from meddistill.arrays import Flags, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, Weights
from meddistill.evaluation.base.columns import FactReaders, Layout, texts, vectors
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.predictions import Decisions, Rate, as_it_is
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.tasks.classification.calibration import (
    CALIBRATION,
    TEMPERED,
    at_bound,
    calibration_metrics,
    fit_temperature,
    tempered,
)
from meddistill.evaluation.tasks.classification.config import points
from meddistill.evaluation.tasks.classification.metrics import (
    MAIN,
    auc_metric,
    class_metrics,
    main_metric,
    predicted_share,
)
from meddistill.evaluation.tasks.classification.operating import at_youden_point
from meddistill.evaluation.tasks.classification.pictures import class_exhibits
from meddistill.evaluation.tasks.classification.score_predictions import (
    REPEATS,
    ScorePredictions,
    undefined,
    unresampled,
)

BARE: Final = "bare cosines"  # of zero-shot classes: probabilities without the logit scale

Measure = Callable[["ClassPredictions", Weights, Ints], Mapping[str, Replicates]]


@dataclass(frozen=True, kw_only=True)
class ClassPredictions(ScorePredictions):
    """Scores of every class for every row.

    `scores` [n, C] float64 (float32 rounds sure probabilities to 1 and so makes ties), `truth` [n] index into
    `classes`. Under the setting `BARE` only the area under the curves is told; temperature and thresholds are
    fitted on the rows of the setting `VALIDATION`.

    `ordinal` says that the order of the classes means something; `positive` which class `operating_points`
    are about.
    """

    kind: ClassVar[str] = "classes"
    layout: ClassVar[Layout] = {**REPEATS, "truth_names": texts("truth"), "scores": vectors("scores")}
    fact_readers: ClassVar[FactReaders] = {
        "classes": tuple,
        "probabilities": bool,
        "ordinal": bool,
        "positive": as_it_is,
        "operating_points": points,
    }

    classes: tuple[str, ...]
    ordinal: bool = False
    positive: str | None = None

    def temperatures(self) -> dict[int, float]:
        """Seed of the main setting → the temperature fitted on validation; empty without one."""
        validation = self.validation
        if validation is None or not self.probabilities:
            return {}
        fits = validation._fits()
        return {int(fit.seeds[0]): fit_temperature(fit.truth, fit.scores) for fit in fits}

    def warnings(self) -> tuple[str, ...]:
        """Whether the temperature is a bound of its search."""
        bound = at_bound(self.temperatures().values())
        return (f"not calibrated: {bound}",) if bound else ()

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """ROC curves, calibration before and after temperature, and the confusion matrix."""
        return class_exhibits(
            self.main, self.classes, self.positive, self.temperatures(), model=model, task=task
        )

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
        main = self.main
        if len(np.unique(main.seeds)) != 1:
            return None
        right = predicted_share(main.scores)[np.arange(len(main.rows)), main.truth] == 1
        return Decisions(rows=main.rows, patients=main.patients, right=right)

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

        def measure(rows: ClassPredictions, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            truth, scores = rows.truth, rows.scores
            if setting == BARE:  # nothing else depends on the scale, or is meant to be read without it
                return {"auc": auc_metric(truth, scores, weights, groups)}
            metrics = class_metrics(truth, scores, weights, groups, ordinal=self.ordinal)
            return metrics | calibration_metrics(truth, scores, weights, groups) if calibrated else metrics

        return self.of_setting(setting)._measured(resampler, measure, setting)

    def _temperature(self, resampler: Resampler) -> list[Score]:
        """What the temperature changes: calibration, and the area under the curves of several classes."""
        temperatures, validation = self.temperatures(), self.validation
        if validation is None or not temperatures:
            return []

        def measure(rows: ClassPredictions, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            scores = tempered(rows.scores, temperatures[int(rows.seeds[0])])
            auc = auc_metric(rows.truth, scores, weights, groups)
            return {"auc": auc, **calibration_metrics(rows.truth, scores, weights, groups)}

        bound = at_bound(temperatures.values())
        if bound:
            names = ("auc", *CALIBRATION, "temperature")
            return undefined(names, self.main, setting=TEMPERED, why=bound)
        values = list(temperatures.values())
        fitted = unresampled("temperature", values, validation.patients, setting=TEMPERED)
        return [*self.main._measured(resampler, measure, TEMPERED), fitted]

    def _main_metric(self, resampler: Resampler) -> Score:
        """Balanced accuracy."""

        def measure(rows: ClassPredictions, weights: Weights, groups: Ints) -> Mapping[str, Replicates]:
            return {MAIN: main_metric(rows.truth, rows.scores, weights, groups)}

        return self._measured(resampler, measure, "")[0]

    def _operated(self) -> Mapping[int, str]:
        return {} if self.positive is None else {self.classes.index(self.positive): ""}

    def _known(self, column: int) -> tuple[Self, Flags]:
        return self, self.truth == column

    def _one_sided(self, column: int, role: str) -> str:  # noqa: ARG002
        return one_class_only(self.truth, self.classes, role=role)

    def _measured(self, resampler: Resampler, measure: Measure, setting: str) -> list[Score]:
        """What `measure` finds, averaged over the seeds, resample by resample."""
        fits = self._fits()
        weights = fits[0]._weights(resampler)
        by_fit = [measure(fit, *weights) for fit in fits]
        return fits[0]._averages(by_fit, setting=setting, main="" if setting else MAIN)


def one_class_only(truth: Ints, classes: Sequence[str], *, role: str = "") -> str:
    """Words for rows (of `role`, "" for the tested ones) that are all of one class; "" where they are not."""
    there = np.unique(truth)
    return f"all {role or 'tested'} rows are of {classes[int(there[0])]}" if len(there) == 1 else ""
