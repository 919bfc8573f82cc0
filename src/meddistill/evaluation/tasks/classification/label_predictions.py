"""A probability of every label for every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Self

import numpy as np

from meddistill.arrays import Flags, Floats
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, mean_of_defined
from meddistill.evaluation.base.columns import FactReaders, Layout, vectors
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.score import Score, averaged
from meddistill.evaluation.tasks.classification.calibration import TEMPERED
from meddistill.evaluation.tasks.classification.config import points
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
from meddistill.evaluation.tasks.classification.pictures import label_exhibits
from meddistill.evaluation.tasks.classification.score_predictions import (
    REPEATS,
    VALIDATION,
    ScorePredictions,
    undefined,
    unresampled,
)

MAIN: Final = AUC
MEAN_PRECISION: Final = "mean_average_precision"
_MEANS: Final = {PRECISION: MEAN_PRECISION}  # the others keep their names


@dataclass(frozen=True, kw_only=True)
class LabelPredictions(ScorePredictions):
    """Scores [n, L] float64 of every label, and its truth [n, L]: 1 present, 0 absent, -1 unknown.

    Macro AUC and mAP are told of every setting; of the main one all of every label (setting `label <name>`),
    calibration, operating points, and macro AUC by modality. Thresholds and temperatures are fitted on the
    rows of the setting `VALIDATION`.
    """

    kind: ClassVar[str] = "labels"
    layout: ClassVar[Layout] = {
        **REPEATS,
        "truth": vectors("truth", stored=np.int8, held=np.int64),
        "scores": vectors("scores"),
    }
    fact_readers: ClassVar[FactReaders] = {"labels": tuple, "probabilities": bool, "operating_points": points}

    labels: tuple[str, ...]

    def warnings(self) -> tuple[str, ...]:
        """Labels whose temperature is no result."""
        left_out = {label: why for label, why in self._labels_without_temperature().items() if why}
        said = ", ".join(f"{label} ({why})" for label, why in left_out.items())
        return (f"not calibrated: {said}",) if said else ()

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """ROC curves."""
        return label_exhibits(self.main, self.labels, model=model, task=task)

    def _setting(self, resampler: Resampler, setting: str) -> list[Score]:
        """Means over labels, and for the main setting every label."""
        fits = self.of_setting(setting)._fits()
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

    def _main_metric(self, resampler: Resampler) -> Score:
        """Macro AUC."""
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
            self._known(column)[0]._score(metric, [fit[metric][place] for fit in fits], setting=setting)
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
        temperatures, reasons = self._temperatures(), [*self._labels_without_temperature().values()]
        if not temperatures:
            return []
        main = self.main._fits()
        named = {column: f"label {label}, {TEMPERED}" for column, label in enumerate(self.labels)}
        kept = {column: name for column, name in named.items() if not reasons[column]}
        scores = self._scores_with_temperature(resampler, temperatures, kept) if kept else []
        names = (*LABEL_CALIBRATION, "temperature")
        for column, why in enumerate(reasons):
            if why:
                scores += undefined(names, main[0]._known(column)[0], setting=named[column], why=why)
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
        validation = self.of_setting(VALIDATION)
        for column, setting in named.items():
            values = [fitted[column].temperature for fitted in temperatures]
            patients = validation._known(column)[0].patients
            scores.append(unresampled("temperature", values, patients, setting=setting))
        return scores

    def _operated(self) -> Mapping[int, str]:
        return dict(enumerate(self.labels))

    def _known(self, column: int) -> tuple[Self, Flags]:
        known = self.take(self.truth[:, column] != UNKNOWN)
        return known, known.truth[:, column] == 1

    def _one_sided(self, column: int, role: str) -> str:
        return one_value_only(self._known(column)[1], role=role)


def one_value_only(present: Flags, *, role: str) -> str:
    """Words for the known rows (of `role`) of a label that are all alike; "" where they differ."""
    if not len(present):
        return f"no {role} row where it is known"
    if present.all():
        return f"no negative {role} row"
    return "" if present.any() else f"no positive {role} row"
