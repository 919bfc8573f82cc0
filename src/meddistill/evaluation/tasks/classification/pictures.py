"""What the report draws of classifications: curves and confusion matrices, from the dump."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from meddistill.arrays import Floats
from meddistill.evaluation.base.exhibits import AnyExhibit, CalibrationCurve, Confusion, RocCurve
from meddistill.evaluation.tasks.classification.calibration import (
    TEMPERED,
    at_bound,
    calibration_curve,
    tempered,
)
from meddistill.evaluation.tasks.classification.metrics import predicted_share
from meddistill.evaluation.tasks.classification.roc import Roc, mean_roc, roc, thinned
from meddistill.evaluation.tasks.classification.score_predictions import ScorePredictions

MACRO: Final = "macro"
MOST_CURVES: Final = 20
MOST_CLASSES: Final = 30
_DIGITS: Final = 4


def class_exhibits(
    main: ScorePredictions,
    classes: Sequence[str],
    positive: str | None,
    temperatures: Mapping[int, float],
    *,
    model: str,
    task: str,
) -> tuple[AnyExhibit, ...]:
    """Of the main setting, all seeds together: ROC curves, calibration, confusion.

    `main` are rows of one class each, truth [n] and scores [n, C]; `temperatures` those of each seed, empty
    without any. With two classes there is one curve, that of the positive class (without one named, of the
    second); with more there is one for each class, unless there are more than 20, and their mean (`macro`).
    """
    chosen = [positive or classes[1]] if len(classes) == 2 else classes
    columns = {name: classes.index(name) for name in chosen}
    curves = {name: roc(main.truth == each, main.scores[:, each]) for name, each in columns.items()}
    return (
        *_curves(curves, model=model, task=task),
        *_calibration(main, temperatures, model=model, task=task),
        *_confusion(main, classes, model=model, task=task),
    )


def label_exhibits(
    main: ScorePredictions, labels: Sequence[str], *, model: str, task: str
) -> tuple[AnyExhibit, ...]:
    """A ROC curve for each label whose rows have both values, and their mean (`macro`).

    `main` are rows of several labels, [n, L]; truth is negative where it is not known.
    """
    curves = {}
    for column, label in enumerate(labels):
        known = main.truth[:, column] >= 0
        curves[label] = roc(main.truth[known, column] == 1, main.scores[known, column])
    return tuple(_curves(curves, model=model, task=task))


def _curves(curves: Mapping[str, Roc | None], *, model: str, task: str) -> Iterator[RocCurve]:
    named = {name: curve for name, curve in curves.items() if curve is not None}
    drawn = dict(named) if len(named) <= MOST_CURVES else {}
    if len(named) > 1:
        drawn[MACRO] = mean_roc(list(named.values()))
    for label, curve in drawn.items():
        fpr, tpr = thinned(curve)
        yield RocCurve(model=model, task=task, label=label, fpr=fpr, tpr=tpr, auc=curve.auc)


def _calibration(
    main: ScorePredictions, temperatures: Mapping[int, float], *, model: str, task: str
) -> Iterator[CalibrationCurve]:
    if not main.probabilities:
        return
    treated = {"": main.scores}
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


def _confusion(
    main: ScorePredictions, classes: Sequence[str], *, model: str, task: str
) -> Iterator[Confusion]:
    if len(classes) > MOST_CLASSES:
        return
    counts = np.eye(len(classes))[main.truth].T @ predicted_share(main.scores)
    counts /= len(np.unique(main.seeds))
    table = tuple(_rounded(row) for row in counts)
    yield Confusion(model=model, task=task, classes=tuple(classes), counts=table)


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(np.round(values, _DIGITS).tolist())
