"""A probability of every label for every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, Weights, mean_of_defined
from meddistill.evaluation.base.columns import FactReaders, Layout, texts, vectors, whole_numbers
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.score import Score, averaged, by_modality, by_seed
from meddistill.evaluation.tasks.classification.calibration import TEMPERED
from meddistill.evaluation.tasks.classification.config import OperatingPoint, points
from meddistill.evaluation.tasks.classification.label_calibration import (
    LABEL_CALIBRATION,
    LabelTemperature,
    apply_temperature,
    label_calibration,
    label_temperatures,
)
from meddistill.evaluation.tasks.classification.label_metrics import (
    AUC,
    PRECISION,
    UNKNOWN,
    label_auc,
    label_metrics,
)
from meddistill.evaluation.tasks.classification.operating_points import (
    MEASURES,
    at_threshold,
    setting_of,
    threshold,
)
from meddistill.evaluation.tasks.classification.pictures import label_exhibits
from meddistill.evaluation.tasks.classification.predictions import VALIDATION, undefined, unresampled

MAIN: Final = AUC
MEAN_PRECISION: Final = "mean_average_precision"
_MEANS: Final = {PRECISION: MEAN_PRECISION}  # the others keep their names


@dataclass(frozen=True, kw_only=True)
class LabelPredictions(Predictions):
    """Scores [n, L] float64 of every label, and its truth [n, L]: 1 present, 0 absent, -1 unknown.

    A task that predicts the same rows several times tells them apart by `settings` ("" for the main one) and
    `seeds`. Rows of the setting `VALIDATION` are those of the validation table, on which thresholds and
    temperatures of the main setting (of the same seed) are fitted; they are not tested, and their `rows` are
    negative. `probabilities` says that scores are meant as such, so that calibration can be measured.
    """

    kind: ClassVar[str] = "labels"
    layout: ClassVar[Layout] = {
        "settings": texts("setting"),
        "seeds": whole_numbers("seed"),
        "truth": vectors("truth", stored=np.int8, held=np.int64),
        "scores": vectors("scores"),
    }
    fact_readers: ClassVar[FactReaders] = {"labels": tuple, "probabilities": bool, "operating_points": points}

    labels: tuple[str, ...]
    truth: Ints
    scores: Floats
    settings: tuple[str, ...]
    seeds: Ints
    probabilities: bool = False
    operating_points: tuple[OperatingPoint, ...] = ()

    @property
    def main(self) -> "LabelPredictions":
        """The rows of the main setting alone."""
        return self._of("")

    @property
    def validation(self) -> "LabelPredictions | None":
        """The rows of the validation table; None without one."""
        return self._of(VALIDATION) if VALIDATION in self.settings else None

    def metrics(self, resampler: Resampler) -> list[Score]:
        """Macro AUC and mAP of every setting; of the main one all of every label (setting `label <name>`),
        calibration, operating points, and macro AUC by modality.
        """
        scores: list[Score] = []
        for setting in dict.fromkeys(self.settings):
            if setting != VALIDATION:
                scores += self._setting(resampler, setting)
        scores += [*self._temperature(resampler), *self._operating(resampler)]
        main = self.main
        for modality, mask in by_modality(main.modalities).items():
            part = main.take(np.flatnonzero(mask))
            scores.append(replace(part._macro_auc(resampler), modality=modality, spread=None, main=False))
        return scores

    def main_score(self, resampler: Resampler) -> Score | None:
        """Macro AUC of the main setting alone."""
        return self.main._macro_auc(resampler) if "" in self.settings else None

    def warnings(self) -> tuple[str, ...]:
        """Labels whose temperature is no result."""
        left_out = {label: why for label, why in self._labels_without_temperature().items() if why}
        said = ", ".join(f"{label} ({why})" for label, why in left_out.items())
        return (f"not calibrated: {said}",) if said else ()

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """ROC curves."""
        return label_exhibits(self, model=model, task=task)

    def _fits(self) -> list["LabelPredictions"]:
        """The rows of each seed; rows and truth are the same in all."""
        return [self.take(rows) for rows in by_seed(self.seeds)]

    def _weights(self, resampler: Resampler) -> tuple[Weights, Ints]:
        patients, groups = np.unique(self.patients, return_inverse=True)
        return resampler.weights(patients), groups

    def _setting(self, resampler: Resampler, setting: str) -> list[Score]:
        """Means over labels, and for the main setting every label."""
        fits = self._of(setting)._fits()
        by_fit = []
        for fit in fits:
            weights, groups = fit._weights(resampler)
            values = dict(label_metrics(fit.truth, fit.scores, weights, groups))
            if self.probabilities and not setting:
                values |= label_calibration(fit.truth, fit.scores, weights, groups)
            by_fit.append(values)
        scores = [
            fits[0]._score(name, [mean_of_defined(each[metric]) for each in by_fit], setting=setting)
            for metric, name in ((each, _MEANS.get(each, each)) for each in by_fit[0])
        ]
        scores = [replace(each, main=each.metric == MAIN and not setting) for each in scores]
        if not setting:
            named = {column: f"label {label}" for column, label in enumerate(self.labels)}
            scores += fits[0]._label_scores(by_fit, named)
        return scores

    def _macro_auc(self, resampler: Resampler) -> Score:
        fits = self._fits()
        by_fit = [mean_of_defined(label_auc(fit.truth, fit.scores, *fit._weights(resampler))) for fit in fits]
        return replace(fits[0]._score(MAIN, by_fit), main=True)

    def _score(self, metric: str, fits: Sequence[Replicates], *, setting: str = "", note: str = "") -> Score:
        """The mean of `found` over fits, told of these rows."""
        n, patients = len(self.rows), len(np.unique(self.patients))
        return averaged(metric, fits, n=n, patients=patients, setting=setting, note=note)

    def _label_scores(self, fits: Sequence[Mapping[str, Floats]], named: Mapping[int, str]) -> list[Score]:
        """All metrics of the labels that are `named` (column → setting), on the rows where each is known.

        `found` has for each fit and metric [L, R], the labels in the order of `named`.
        """
        return [
            self._known(column)._score(metric, [fit[metric][place] for fit in fits], setting=setting)
            for place, (column, setting) in enumerate(named.items())
            for metric in fits[0]
        ]

    def _temperatures(self) -> list[list[LabelTemperature]]:
        """The temperatures of the labels, fit by fit; [] where none can be fitted."""
        validation = self.validation
        if validation is None or not self.probabilities:
            return []
        return [label_temperatures(fit.truth, fit.scores) for fit in validation._fits()]

    def _labels_without_temperature(self) -> dict[str, str]:
        """Label → why it has no temperature, "" where it has one."""
        columns = zip(*self._temperatures(), strict=True)
        return {
            label: next((each.why for each in column if each.why), "")
            for label, column in zip(self.labels, columns, strict=False)
        }

    def _temperature(self, resampler: Resampler) -> list[Score]:
        """Calibration after a temperature for each label; the means run over the labels that have one."""
        temperatures, without_temperature = self._temperatures(), self._labels_without_temperature()
        if not temperatures:
            return []
        main = self.main._fits()
        named = {column: f"label {label}, {TEMPERED}" for column, label in enumerate(self.labels)}
        kept = {
            column: named[column]
            for column, label in enumerate(self.labels)
            if not without_temperature[label]
        }
        scores = self._scores_with_temperature(resampler, temperatures, kept) if kept else []
        for column, label in enumerate(self.labels):
            if without_temperature[label]:
                names = (*LABEL_CALIBRATION, "temperature")
                tested, why = main[0]._known(column), without_temperature[label]
                scores += undefined(names, tested, setting=named[column], why=why)
        if not kept:
            why = "no label has a temperature"
            scores += undefined(LABEL_CALIBRATION, main[0], setting=TEMPERED, why=why)
        return scores

    def _scores_with_temperature(
        self,
        resampler: Resampler,
        temperatures: Sequence[Sequence[LabelTemperature]],
        named: Mapping[int, str],
    ) -> list[Score]:
        """Those of the labels that are `named`, which have a temperature, and their means."""
        main, columns = self.main._fits(), list(named)
        by_fit = []
        for fit, fitted in zip(main, temperatures, strict=True):
            changed = apply_temperature(fit.scores[:, columns], [fitted[column] for column in columns])
            by_fit.append(label_calibration(fit.truth[:, columns], changed, *fit._weights(resampler)))
        without = [label for column, label in enumerate(self.labels) if column not in named]
        note = f"without {', '.join(without)}" if without else ""
        scores = [
            main[0]._score(name, [mean_of_defined(fit[name]) for fit in by_fit], setting=TEMPERED, note=note)
            for name in LABEL_CALIBRATION
        ]
        scores += main[0]._label_scores(by_fit, named)
        validation = self._of(VALIDATION)
        for column, setting in named.items():
            values = [fitted[column].temperature for fitted in temperatures]
            patients = validation._known(column).patients
            scores.append(unresampled("temperature", values, patients, setting=setting))
        return scores

    def _operating(self, resampler: Resampler) -> list[Score]:
        on_validation = self.validation is not None
        fitted, main = (self.validation or self.main)._fits(), self.main._fits()
        scores: list[Score] = []
        for column, label in enumerate(self.labels):
            known = [fit._known(column) for fit in fitted]
            present = [fit.truth[:, column] == 1 for fit in known]
            why = one_value_only(present[0], role="validation" if on_validation else "tested")
            for point in self.operating_points:
                setting = setting_of(point, on_validation=on_validation, label=label)
                if why:
                    tested = main[0]._known(column)
                    scores += undefined(("threshold", *MEASURES), tested, setting=setting, why=why)
                    continue
                held = [
                    threshold(truth, fit.scores[:, column], point)
                    for truth, fit in zip(present, known, strict=True)
                ]
                values = [each for each in held if each is not None]
                patients = np.concatenate([fit.patients for fit in known])
                scores.append(unresampled("threshold", values, patients, setting=setting))
                reached = [
                    fit._held(resampler, column, value) for fit, value in zip(main, values, strict=True)
                ]
                scores += main[0]._label_scores(reached, {column: setting})
        return scores

    def _held(self, resampler: Resampler, column: int, value: float) -> Mapping[str, Floats]:
        """What the threshold `value` of one label leads to, [1, R] each."""
        known = self._known(column)
        truth, called = known.truth[:, column] == 1, known.scores[:, column] >= value
        metrics = at_threshold(truth, called, *known._weights(resampler))
        return {name: values[None] for name, values in metrics.items()}

    def _known(self, column: int) -> "LabelPredictions":
        return self.take(np.flatnonzero(self.truth[:, column] != UNKNOWN))

    def _of(self, setting: str) -> "LabelPredictions":
        kept = np.flatnonzero(np.array(self.settings, dtype=object) == setting)
        return self if len(kept) == len(self.rows) else self.take(kept)


def one_value_only(present: Flags, *, role: str) -> str:
    """Words for the known rows (of `role`) of a label that are all alike; "" where they differ."""
    if not len(present):
        return f"no {role} row where it is known"
    if present.all():
        return f"no negative {role} row"
    return "" if present.any() else f"no positive {role} row"
