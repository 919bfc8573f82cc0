"""The answer that a model gives to every question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, mean_of_defined, weighted_mean
from meddistill.evaluation.base.columns import (
    FactReaders,
    Layout,
    decimals,
    flags,
    texts,
    vectors,
    whole_numbers,
)
from meddistill.evaluation.base.exhibits import AnsweredQuestion
from meddistill.evaluation.base.predictions import Predictions, by_hash
from meddistill.evaluation.base.results import ALL_ROWS
from meddistill.evaluation.base.score import Score, averaged, by_modality, by_seed
from meddistill.evaluation.tasks.vqa.metrics import MACRO, MAIN, rightness
from meddistill.evaluation.tasks.vqa.questions import CLOSED, OPEN

# Answers kept for every question. The rest would make the dump of a large vocabulary hundreds of times as
# large, and has next to no probability.
KEPT: Final = 100
_EXHIBITED: Final = 12


@dataclass(frozen=True, kw_only=True)
class VqaPredictions(Predictions):
    """The answer that a model gives to every question, by seed, and the best of the others.

    Answers are numbers into the task's vocabulary of `answers` entries; their words are in `vocabulary` only
    where examples may be shown (`SampleNames.examples`). `truth` [n] is OUTSIDE where the right answer is
    none of them; `answerable` [n] says whether it is one of those that were allowed for the question. `right`
    [n] is 1 / m where m answers share the highest score and the right one is among them.
    `best` [n, k] are the answers with the highest probabilities `scores` [n, k], the highest first; `chosen`
    is the first of them. `answer_tables` and `answer_rows` [n] name where the chosen answer is found first,
    "" and 0 where no table has it. `note` says what the model was asked with, "" for the usual.
    """

    kind: ClassVar[str] = "answers"
    layout: ClassVar[Layout] = {
        "seeds": whole_numbers("seed"),
        "answer_types": texts("answer_type"),
        "question_types": texts("question_type"),
        "truth": whole_numbers("truth"),
        "answerable": flags("answerable"),
        "chosen": whole_numbers("chosen"),
        "right": decimals("right"),
        "best": vectors("best", stored=np.int32, held=np.int64),
        "scores": vectors("scores"),
        "answer_tables": texts("answer_table"),
        "answer_rows": whole_numbers("answer_row"),
    }
    fact_readers: ClassVar[FactReaders] = {
        "table": str,
        "answers": int,
        "vocabulary": lambda words: None if words is None else tuple(words),
        "note": str,
    }

    table: str
    answers: int
    vocabulary: tuple[str, ...] | None
    note: str
    seeds: Ints
    answer_types: tuple[str, ...]
    question_types: tuple[str, ...]
    truth: Ints
    answerable: Flags
    right: Floats
    best: Ints
    scores: Floats
    answer_tables: tuple[str, ...]
    answer_rows: Ints

    @property
    def chosen(self) -> Ints:
        """The answer given to every row, [n]."""
        return self.best[:, 0]

    def metrics(self, resampler: Resampler) -> list[Score]:
        """Accuracy overall, by answer type and by kind of question, and overall by modality."""
        fits = by_seed(self.seeds)
        first = fits[0]
        right = np.stack([self.right[rows] for rows in fits])
        scorer = _QuestionScorer(resampler, right, self.patients[first], self.note)
        types = np.array(self.answer_types, dtype=object)[first]
        kinds = np.array(self.question_types, dtype=object)[first]
        everything = np.ones(len(first), dtype=bool)
        scores = [scorer.score(MAIN, everything, main=True)]
        scores += [scorer.score(f"{MAIN}_{name}", types == name) for name in (OPEN, CLOSED)]
        scores.append(scorer.score(f"{MAIN}_answerable", self.answerable[first]))
        by_kind = {kind: kinds == kind for kind in sorted({*kinds.tolist()} - {""})}
        if by_kind:
            scores.append(scorer.macro(list(by_kind.values())))
        scores += [scorer.score(MAIN, mask, setting=setting_of(kind)) for kind, mask in by_kind.items()]
        modalities = [self.modalities[row] for row in first]
        return scores + [
            scorer.score(MAIN, mask, modality=name) for name, mask in by_modality(modalities).items()
        ]

    def exhibits(self, model: str, task: str) -> tuple[AnsweredQuestion, ...]:
        """Right and wrong answers of the first seed in turn, within each in the order of a hash."""
        rows = by_seed(self.seeds)[0].tolist()
        ordered = sorted(rows, key=lambda row: by_hash(task, int(self.rows[row])))
        right = [row for row in ordered if self.chosen[row] == self.truth[row]]
        wrong = [row for row in ordered if self.chosen[row] != self.truth[row]]
        turns = [row for row in chain(*zip_longest(right, wrong)) if row is not None]
        return tuple(
            AnsweredQuestion(
                model=model,
                task=task,
                table=self.table,
                row=int(self.rows[row]),
                right=bool(self.chosen[row] == self.truth[row]),
                question_type=self.question_types[row],
                answer_table=self.answer_tables[row],
                answer_row=int(self.answer_rows[row]) if self.answer_tables[row] else None,
            )
            for row in turns[:_EXHIBITED]
        )

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the layout but `chosen`, which is the first of the best."""
        fields = super().own_fields(table, facts)
        del fields["chosen"]
        return fields

    def probabilities(self, seed: int) -> Floats:
        """Of all answers for the rows of a seed, [n, V]; zero for those that were not kept."""
        rows = np.flatnonzero(self.seeds == seed)
        dense = np.zeros((len(rows), self.answers))
        np.put_along_axis(dense, self.best[rows], self.scores[rows], axis=1)
        return dense


class _QuestionScorer:
    """Scores of subsets of the questions; `right` [s, n] by seed."""

    def __init__(self, resampler: Resampler, right: Floats, patients: Ints, note: str) -> None:
        self._resampler, self._right, self._patients, self._note = resampler, right, patients, note

    def score(
        self, metric: str, mask: Flags, *, setting: str = "", modality: str = ALL_ROWS, main: bool = False
    ) -> Score:
        """Accuracy on the questions of `mask`, the mean over seeds."""
        return averaged(
            metric,
            self._fits(mask),
            modality=modality,
            setting=setting,
            main=main,
            **self._facts(mask),
        )

    def macro(self, masks: Sequence[Flags]) -> Score:
        """The mean over kinds of questions, and over seeds."""
        fits = zip(*map(self._fits, masks), strict=True)
        return averaged(
            MACRO, [mean_of_defined(kinds) for kinds in fits], **self._facts(np.any(masks, axis=0))
        )

    def _fits(self, mask: Flags) -> list[Replicates]:
        """Accuracy on the questions of `mask` by seed."""
        patients, groups = np.unique(self._patients[mask], return_inverse=True)
        weights = self._resampler.weights(patients)
        return [weighted_mean(right[mask], weights, groups) for right in self._right]

    def _facts(self, mask: Flags) -> dict[str, Any]:
        return {
            "n": int(mask.sum()),
            "patients": len(np.unique(self._patients[mask])),
            "note": self._note,
        }


def setting_of(kind: str) -> str:
    """The setting under which results have the accuracy of one kind of question."""
    return f"question type: {kind}"


def best_answers(scores: Floats, truth: Ints) -> tuple[Ints, Floats, Floats]:
    """Of scores [n, V] the best answers [n, k] and their scores, and how right the highest is [n]."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :KEPT]
    return best, np.take_along_axis(scores, best, axis=1), rightness(scores, truth)
