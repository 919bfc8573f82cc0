"""Answers without a look at the image: what the training table alone can know."""

from collections.abc import Mapping, Sequence

import numpy as np

from meddistill.arrays import Floats
from meddistill.evaluation.tasks.vqa.questions import OUTSIDE, Questions, Vocabulary, shares_by


def frequent_answers(train: Questions, test: Questions, vocabulary: Vocabulary) -> Mapping[str, Floats]:
    """Baseline → share of each answer among the like training questions, for every test question, [n, V].

    `most frequent answer`: of the same kind of question, of all questions where the kind is new or unknown.
    `same question`: of the same words (case and white space aside), else as the first.
    """
    numbers, size = vocabulary.numbers(train.answers), len(vocabulary)
    inside = numbers[numbers != OUTSIDE]
    overall = np.bincount(inside, minlength=size) / max(len(inside), 1)
    by_kind = shares_by(train.question_types, numbers, size, wanted=test.question_types)
    frequent = [by_kind.get(kind, overall) if kind else overall for kind in test.question_types]
    questions = _plain(test.texts)
    by_words = shares_by(_plain(train.texts), numbers, size, wanted=questions)
    same = [by_words.get(text, other) for text, other in zip(questions, frequent, strict=True)]
    return {"most frequent answer": np.stack(frequent), "same question": np.stack(same)}


def _plain(texts: Sequence[str]) -> list[str]:
    return [" ".join(text.lower().split()) for text in texts]
