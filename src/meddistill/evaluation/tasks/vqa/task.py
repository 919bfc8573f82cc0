"""What both tasks of visual question answering have: questions, a set of answers, what is said of it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.errors import TableError
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.vqa.baselines import frequent_answers
from meddistill.evaluation.tasks.vqa.config import VqaConfig
from meddistill.evaluation.tasks.vqa.metrics import MAIN
from meddistill.evaluation.tasks.vqa.predictions import VqaPredictions, best_answers
from meddistill.evaluation.tasks.vqa.questions import (
    OUTSIDE,
    ROLES,
    Questions,
    Vocabulary,
    counted,
    read_questions,
    vocabulary_of,
)

VqaConfigT = TypeVar("VqaConfigT", bound=VqaConfig)


class VqaTask(Task[VqaConfigT, VqaPredictions]):
    """Tasks that choose the answer to a question about an image from a set of answers."""

    needs_text = True
    main = MAIN

    @cached_property
    def questions(self) -> Mapping[str, Questions]:
        """Role of a table → its questions."""
        return {role: read_questions(part, self.config) for role, part in self.parts.items()}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The answers of the tables that the policy names."""
        wanted = [role for role in ROLES[self.config.policy] if role in self.parts]
        return vocabulary_of(self.parts, {role: self.questions[role] for role in wanted})

    def check(self) -> None:
        """Raise TableError for blank questions or answers, and for answer types that are none."""
        for role in self.parts:
            _ = self.questions[role]
        if not self.answerable.any():
            rule = (
                f"some test questions must have their right answer among the {len(self.vocabulary)} that can "
                f"be given ({self.policy_description}); none has. Look at `answer`, or widen the answers."
            )
            raise TableError(self.tested.subject, [rule])

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[VqaPredictions],
    ) -> VqaPredictions:
        """The mean of the members' answer probabilities, seed by seed.

        Each member counts with its `KEPT` best answers, the others with zero: exact for vocabularies that
        are no larger.
        """
        seeds = np.unique(predictions[0].seeds).tolist()
        scores = [np.mean([each.probabilities(seed) for each in predictions], axis=0) for seed in seeds]
        notes = dict.fromkeys(each.note for each in predictions if each.note)
        return self._predictions(scores, note="; ".join(notes))

    def baselines(self) -> Mapping[str, VqaPredictions]:
        """What the training table alone says, without a look at the image.

        `most frequent answer`: of the kind of question. `same question`: of the training questions with the
        same words, where there are any, else of the kind of question. Of the answers that are allowed for
        the question, all alike where training has none of them. None without a training table.
        """
        if "train" not in self.parts:
            return {}
        frequent = frequent_answers(self.questions["train"], self.questions["test"], self.vocabulary)
        return {name: self._predictions([self._among_allowed(scores)]) for name, scores in frequent.items()}

    def facts(self) -> dict[str, Any]:
        """Size of the vocabulary, coverage, and counts of types and kinds of questions."""
        questions = self.questions["test"]
        return {
            "answers": len(self.vocabulary),
            "answer_vocabulary": self.policy_description,
            "coverage": float(self.answerable.mean()),
            "questions": len(set(questions.texts)),
            "answer_types": counted(questions.answer_types),
            "question_types": counted(questions.question_types),
            "rows": {role: len(part) for role, part in self.parts.items()},
            "warnings": [*self._coverage_warnings(), *self._shared_warnings()],
        }

    @property
    def policy_description(self) -> str:
        """Whose answers make the vocabulary."""
        return self.config.policy

    def truth(self, role: str) -> Ints:
        """Number of the right answer to every question of a table; OUTSIDE where it is none of the set."""
        return self.vocabulary.numbers(self.questions[role].answers)

    @property
    def answerable(self) -> Flags:
        """Test questions whose right answer is among those allowed for them, [n]."""
        return self.truth("test") != OUTSIDE

    @abstractmethod
    def predict(self, embeddings: Embeddings) -> VqaPredictions:
        """What one model answers."""

    def _among_allowed(self, scores: Floats) -> Floats:
        """Scores [n, V] of tested rows, zero for answers that are not allowed."""
        return scores

    def _coverage_warnings(self) -> list[str]:
        share, answers = 100 * float(self.answerable.mean()), len(self.vocabulary)
        warnings = []
        if self.policy_description == "all":
            warnings.append(f"the {answers} answers that can be given were read from the test table too")
        if share < 100:
            warnings.append(
                f"{share:.1f} % of the test questions have their right answer among those that can be given "
                f"to them, of {answers} ({self.policy_description}); the others count as wrong"
            )
        return warnings

    def _shared_warnings(self) -> list[str]:
        """How many tested rows show an image, or a patient, of the other tables."""
        if not self.config.allows_shared:
            return []
        others = [part for role, part in self.parts.items() if role != "test"]
        keys = {key for part in others for key in part.keys}
        patients = {patient for part in others for patient in part.patients.tolist()}
        images = sum(key in keys for key in self.tested.keys)
        same = sum(patient in patients for patient in self.tested.patients.tolist())
        if not images and not same:
            return []
        return [
            f"of {len(self.tested)} test questions {images} are about an image, and {same} about a patient, "
            "that stands in another of the task's tables as well"
        ]

    def _predictions(self, scores: Sequence[Floats], *, note: str = "") -> VqaPredictions:
        """`scores` [n, V] of the tested rows for every seed."""
        part, questions, repeats = self.tested, self.questions["test"], len(scores)
        truth = self.truth("test")
        answers = [best_answers(each, truth) for each in scores]
        best, kept, right = (np.concatenate(each) for each in zip(*answers, strict=True))
        sources = [self.vocabulary.sources[answer] for answer in best[:, 0].tolist()]
        return VqaPredictions(
            **self._identity(times=repeats),
            table=part.table,
            answers=len(self.vocabulary),
            vocabulary=self.vocabulary.answers if self.names.examples else None,
            note=note,
            seeds=np.repeat(np.arange(repeats, dtype=np.int64), len(part)),
            answer_types=questions.answer_types * repeats,
            question_types=questions.question_types * repeats,
            truth=np.tile(truth, repeats),
            answerable=np.tile(self.answerable, repeats),
            right=right,
            best=best,
            scores=kept,
            answer_tables=tuple("" if each is None else self.parts[each[0]].table for each in sources),
            answer_rows=np.array([0 if each is None else each[1] for each in sources], dtype=np.int64),
        )
