"""What the report draws of classifications: curves and confusion matrices, from the dump."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol, Self

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.exhibits import AnyExhibit, CalibrationCurve, Confusion, RocCurve
from meddistill.evaluation.tasks.classification.calibration import (
    TEMPERED,
    at_bound,
    calibration_curve,
    tempered,
)
from meddistill.evaluation.tasks.classification.metrics import predicted_share
from meddistill.evaluation.tasks.classification.roc import Roc, mean_roc, roc, thinned

MACRO: Final = "macro"
MOST_CURVES: Final = 20
MOST_CLASSES: Final = 30
_DIGITS: Final = 4


class _Rows(Protocol):
    """Truth and scores of rows; `main` is those of the main setting."""

    @property
    def main(self) -> Self: ...
    @property
    def truth(self) -> Ints: ...
    @property
    def scores(self) -> Floats: ...


class OfClasses(_Rows, Protocol):
    """Rows of one class each, [n] and [n, C]."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def positive(self) -> str | None: ...
    @property
    def probabilities(self) -> bool: ...
    @property
    def seeds(self) -> Ints: ...
    def temperatures(self) -> Mapping[int, float]: ...


class OfLabels(_Rows, Protocol):
    """Rows of several labels, [n, L]; truth is negative where it is not known."""

    @property
    def labels(self) -> tuple[str, ...]: ...


def class_exhibits(predictions: OfClasses, *, model: str, task: str) -> tuple[AnyExhibit, ...]:
    """Of the main setting, all seeds together: ROC curves, calibration, confusion.

    With two classes there is one curve, that of the positive class (without one named, of the second); with
    more there is one for each class, unless there are more than 20, and their mean (`macro`).
    """
    main = predictions.main
    named = _of_classes(main)
    return (
        *_curves(named, model=model, task=task),
        *_calibration(predictions, model=model, task=task),
        *_confusion(main, model=model, task=task),
    )


def label_exhibits(predictions: OfLabels, *, model: str, task: str) -> tuple[AnyExhibit, ...]:
    """A ROC curve for each label whose rows have both values, and their mean (`macro`)."""
    main = predictions.main
    named = {}
    for column, label in enumerate(main.labels):
        known = main.truth[:, column] >= 0
        curve = roc(main.truth[known, column] == 1, main.scores[known, column]) if known.any() else None
        if curve is not None:
            named[label] = curve
    return tuple(_curves(named, model=model, task=task))


def _of_classes(main: OfClasses) -> dict[str, Roc]:
    columns: Sequence[int] = range(len(main.classes))
    if len(main.classes) == 2:
        columns = [main.classes.index(main.positive or main.classes[1])]
    curves = {main.classes[each]: roc(main.truth == each, main.scores[:, each]) for each in columns}
    return {name: curve for name, curve in curves.items() if curve is not None}


def _curves(named: dict[str, Roc], *, model: str, task: str) -> Iterator[RocCurve]:
    drawn = dict(named) if len(named) <= MOST_CURVES else {}
    if len(named) > 1:
        drawn[MACRO] = mean_roc(list(named.values()))
    for label, curve in drawn.items():
        fpr, tpr = thinned(curve)
        yield RocCurve(model=model, task=task, label=label, fpr=fpr, tpr=tpr, auc=curve.auc)


def _calibration(predictions: OfClasses, *, model: str, task: str) -> Iterator[CalibrationCurve]:
    if not predictions.probabilities:
        return
    main = predictions.main
    treated = {"": main.scores}
    temperatures = predictions.temperatures()
    if temperatures and not at_bound(temperatures.values()):
        tempered_scores = np.empty_like(main.scores)
        for seed, temperature in temperatures.items():
            rows = main.seeds == seed
            tempered_scores[rows] = tempered(main.scores[rows], temperature)
        treated[TEMPERED] = tempered_scores
    for setting, scores in treated.items():
        curve = calibration_curve(main.truth, scores)
        gaps = np.abs(curve.accuracy - curve.confidence) * curve.counts
        yield CalibrationCurve(
            model=model,
            task=task,
            setting=setting,
            confidence=_rounded(curve.confidence),
            accuracy=_rounded(curve.accuracy),
            counts=tuple(curve.counts.tolist()),
            ece=float(gaps.sum() / curve.counts.sum()),
        )


def _confusion(main: OfClasses, *, model: str, task: str) -> Iterator[Confusion]:
    classes = len(main.classes)
    if classes > MOST_CLASSES:
        return
    counts = np.eye(classes)[main.truth].T @ predicted_share(main.scores)
    counts /= len(np.unique(main.seeds))
    table = tuple(_rounded(row) for row in counts)
    yield Confusion(model=model, task=task, classes=main.classes, counts=table)


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, _DIGITS).tolist())
