"""A probability of every label for every row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddistill.evaluation.classification.config import OperatingPoint
from meddistill.evaluation.classification.label_metrics import (
    AUC,
    PRECISION,
    UNKNOWN,
    label_metrics,
)
from meddistill.evaluation.classification.operating_points import (
    MEASURES,
    at_threshold,
    setting_of,
    threshold,
)
from meddistill.evaluation.classification.pictures import label_exhibits
from meddistill.evaluation.classification.predictions import VALIDATION, undefined, unresampled
from meddistill.evaluation.exhibits import AnyExhibit
from meddistill.evaluation.predictions import Predictions, lists, matrix, words
from meddistill.evaluation.score import Score, by_modality
from meddistill.evaluation.statistics.bootstrap import Replicates, Resampler, mean_of_defined

MAIN: Final = AUC
MEAN_PRECISION: Final = "mean_average_precision"


@dataclass(frozen=True, kw_only=True)
class LabelPredictions(Predictions):
    """Scores [n, L] float64 of every label, and its truth [n, L]: 1 present, 0 absent, -1 unknown.

    Rows of the setting `VALIDATION` are those of the validation table, on which thresholds are chosen; they
    are not judged, and their `rows` are negative. All others have the setting "".
    """

    kind: ClassVar[str] = "labels"

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    settings: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...] = ()

    @property
    def main(self) -> "LabelPredictions":
        """The judged rows alone."""
        return self._of("")

    @property
    def validation(self) -> "LabelPredictions | None":
        """The rows of the validation table; None without one."""
        return self._of(VALIDATION) if VALIDATION in self.settings else None

    def metrics(self, resampler: Resampler) -> list[Score]:
        """Macro AUC and mAP, both of every label (setting `label <name>`), operating points, modalities."""
        main = self.main
        by_label = main._by_label(resampler)
        n, patients = len(main.rows), len(np.unique(main.patients))
        means = {MAIN: by_label[AUC], MEAN_PRECISION: by_label[PRECISION]}
        found = [
            Score(metric=name, replicates=mean_of_defined(values), n=n, patients=patients, main=name == MAIN)
            for name, values in means.items()
        ]
        found += [*main._label_scores(by_label), *self._operating(resampler)]
        for modality, mask in by_modality(main.modalities).items():
            part = main._take(np.flatnonzero(mask))
            replicates = mean_of_defined(part._by_label(resampler)[AUC])
            n, patients = len(part.rows), len(np.unique(part.patients))
            found.append(Score(metric=MAIN, replicates=replicates, n=n, patients=patients, modality=modality))
        return found

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """ROC curves."""
        return label_exhibits(self, model=model, task=task)

    def facts(self) -> Mapping[str, Any]:
        """The labels, and the operating points."""
        points = [each.model_dump(exclude_none=True) for each in self.operating_points]
        return {"labels": list(self.labels), "operating_points": points}

    def columns(self) -> Mapping[str, pa.Array]:
        """Setting, and truth and scores as lists in the order of the labels."""
        return {
            "setting": words(self.settings),
            "truth": lists(self.truth.astype(np.int8)),
            "scores": lists(self.scores.astype(np.float64)),
        }

    @classmethod
    def from_columns(cls, table: pa.Table, facts: Mapping[str, Any], identity: Mapping[str, Any]) -> Self:
        """The record again."""
        labels = tuple(facts["labels"])
        return cls(
            labels=labels,
            truth=matrix(table, "truth").astype(np.int64),
            scores=matrix(table, "scores"),
            settings=tuple(table["setting"].to_pylist()),
            operating_points=tuple(OperatingPoint(**each) for each in facts["operating_points"]),
            **identity,
        )

    def _by_label(self, resampler: Resampler) -> Mapping[str, NDArray[np.float64]]:
        """Metric → [L, R]."""
        patients, groups = np.unique(self.patients, return_inverse=True)
        return label_metrics(self.truth, self.scores, resampler.weights(patients), groups)

    def _label_scores(self, by_label: Mapping[str, NDArray[np.float64]]) -> list[Score]:
        """Both metrics of every label, on the rows where it is known."""
        found = []
        for column, label in enumerate(self.labels):
            known = self.truth[:, column] != UNKNOWN
            patients = len(np.unique(self.patients[known]))
            found += [
                Score(
                    metric=metric,
                    replicates=values[column],
                    n=int(known.sum()),
                    patients=patients,
                    setting=f"label {label}",
                )
                for metric, values in by_label.items()
            ]
        return found

    def _operating(self, resampler: Resampler) -> list[Score]:
        fitted = self.validation or self.main
        on_validation = self.validation is not None
        found: list[Score] = []
        for column, label in enumerate(self.labels):
            known = fitted.truth[:, column] != UNKNOWN
            truth, scores = fitted.truth[known, column] == 1, fitted.scores[known, column]
            for point in self.operating_points:
                held = threshold(truth, scores, point) if known.any() else None
                setting = setting_of(point, on_validation=on_validation, label=label)
                if held is None:
                    why = one_value_only(truth, role="validation" if on_validation else "tested")
                    judged = self.main._known(column)
                    found += undefined(("threshold", *MEASURES), judged, setting=setting, why=why)
                    continue
                patients = fitted.patients[known]
                found.append(unresampled("threshold", [held], patients, setting=setting))
                found += self.main._held(resampler, column, held, setting)
        return found

    def _known(self, column: int) -> "LabelPredictions":
        return self._take(np.flatnonzero(self.truth[:, column] != UNKNOWN))

    def _held(self, resampler: Resampler, column: int, held: float, setting: str) -> list[Score]:
        known = np.flatnonzero(self.truth[:, column] != UNKNOWN)
        patients, groups = np.unique(self.patients[known], return_inverse=True)
        truth, called = self.truth[known, column] == 1, self.scores[known, column] >= held
        metrics: Mapping[str, Replicates] = at_threshold(truth, called, resampler.weights(patients), groups)
        return [
            Score(metric=metric, replicates=replicates, n=len(known), patients=len(patients), setting=setting)
            for metric, replicates in metrics.items()
        ]

    def _of(self, setting: str) -> "LabelPredictions":
        kept = np.flatnonzero(np.array(self.settings, dtype=object) == setting)
        return self if len(kept) == len(self.rows) else self._take(kept)

    def _take(self, kept: NDArray[np.intp]) -> "LabelPredictions":
        return LabelPredictions(
            labels=self.labels,
            rows=self.rows[kept],
            samples=tuple(self.samples[row] for row in kept),
            patients=self.patients[kept],
            modalities=tuple(self.modalities[row] for row in kept),
            truth=self.truth[kept],
            scores=self.scores[kept],
            settings=tuple(self.settings[row] for row in kept),
            operating_points=self.operating_points,
        )


def one_value_only(present: NDArray[np.bool_], *, role: str) -> str:
    """Words for the known rows (of `role`) of a label that are all alike; "" where they differ."""
    if not len(present):
        return f"no {role} row where it is known"
    if present.all():
        return f"no negative {role} row"
    return "" if present.any() else f"no positive {role} row"
