"""Names of the accuracies of answers, and how right an answer is.

- `accuracy`: weighted share of questions that are answered rightly: exact match of normalised answers, which
  is the VQA score of data with one right answer. An answer outside the vocabulary is wrong.
- `accuracy_open`, `accuracy_closed`: of open and of closed questions.
- `accuracy_answerable`: of questions whose right answer is among those that were allowed for them.
- `macro_accuracy`: mean over the kinds of questions that are present, in the sample as in every resample.
"""

from typing import Final

import numpy as np

from meddistill.arrays import Floats, Ints

MAIN: Final = "accuracy"
MACRO: Final = "macro_accuracy"


def rightness(scores: Floats, truth: Ints) -> Floats:
    """How right the highest of `scores` [n, V] is, [n]: 1/m where m answers share it and `truth` is one.

    0 where `truth` is negative: an answer outside the vocabulary.
    """
    highest = scores == scores.max(axis=1, keepdims=True)
    rows = np.arange(len(truth))
    hit = highest[rows, np.maximum(truth, 0)] & (truth >= 0)
    return np.where(hit, 1.0 / highest.sum(axis=1), 0.0)
