"""How long intervals take: all metrics of a classification under a thousand resamples of its patients."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Measurement, seconds
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.tasks.classification.config import OperatingPoint
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions

ROWS, CLASSES, LABELS = 5000, 10, 14
ROUNDS: Final = 3
LIMIT: Final = 5.0
_POINT: Final = OperatingPoint(sensitivity=0.95)


def run() -> list[Measurement]:
    """Ten classes with calibration, and fourteen labels with an operating point; a patient a row."""
    return [
        _measured(f"{ROWS:,} rows of {CLASSES} classes with AUC and calibration", _classes()),
        _measured(f"{ROWS:,} rows of {LABELS} labels with AUC, AP and an operating point", _labels()),
    ]


def _measured(what: str, predictions: Predictions) -> Measurement:
    """The best of some rounds, each with resamples of its own."""
    config = BootstrapConfig()
    best = min(seconds(lambda: predictions.metrics(Resampler(config))) for _ in range(ROUNDS))
    return Measurement(
        what=f"intervals: {config.resamples:,} resamples of {what}",
        value=f"{best:.2f} s",
        limit=f"< {LIMIT:g} s",
        holds=best < LIMIT,
    )


def _classes() -> ClassPredictions:
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, ROWS)
    logits = random.normal(size=(ROWS, CLASSES)) + 1.5 * np.eye(CLASSES)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return ClassPredictions(
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        truth=truth,
        scores=scores,
        settings=("",) * ROWS,
        seeds=np.zeros(ROWS, dtype=np.int64),
        probabilities=True,
        rows=np.arange(ROWS),
        samples=("",) * ROWS,
        patients=_patients(),
        modalities=("",) * ROWS,
    )


def _labels() -> LabelPredictions:
    random = np.random.default_rng(1)
    truth = random.choice([-1, 0, 1], size=(ROWS, LABELS), p=[0.1, 0.7, 0.2])
    return LabelPredictions(
        labels=tuple(f"label {number}" for number in range(LABELS)),
        truth=truth,
        scores=random.normal(size=(ROWS, LABELS)) + truth,
        settings=("",) * ROWS,
        seeds=np.zeros(ROWS, dtype=np.int64),
        operating_points=(_POINT,),
        rows=np.arange(ROWS),
        samples=("",) * ROWS,
        patients=_patients(),
        modalities=("",) * ROWS,
    )


def _patients() -> NDArray[np.int64]:
    return np.arange(ROWS, dtype=np.int64)
