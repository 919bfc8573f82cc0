"""Which answers are ranked for which question, where none is learnt."""

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Final, NamedTuple, final

import numpy as np

from meddistill.arrays import Flags, Ints, Places
from meddistill.data.keys import text_key
from meddistill.evaluation.tasks.vqa.config import QUESTION, VqaZeroShotConfig
from meddistill.evaluation.tasks.vqa.questions import (
    CLOSED,
    OPEN,
    ROLES,
    YES_NO,
    Questions,
    Vocabulary,
    answers_by_type,
)

_FEWEST: Final = 2  # one candidate would be no choice


class _Scope(NamedTuple):
    """What is known of a question when its candidates are chosen; "" for what the task does not look at."""

    answer_type: str
    question_type: str


class RankedQuestion(NamedTuple):
    """A question, which answers [V] are ranked for it, and the tested rows that it is asked in."""

    text: str
    allowed: Flags
    rows: Places


@final
class Candidates:
    """The answers of the vocabulary that a question's kind allows, at most `most` of them.

    Where fewer than those are ranked, they are the ones that training questions of the same kind have most
    often; equal ones are told apart by their number among all training questions, then by the alphabet.
    Questions count as one where a model cannot tell their words apart (`text_key`).
    """

    def __init__(
        self, config: VqaZeroShotConfig, questions: Mapping[str, Questions], vocabulary: Vocabulary
    ) -> None:
        self._config = config
        self._questions = questions
        self._vocabulary = vocabulary

    @cached_property
    def most(self) -> int:
        """How many answers are ranked for a question at most: as the suite says, or `max_prompts` holds."""
        most = min(self._config.max_candidates or len(self._vocabulary), len(self._vocabulary))
        if "train" not in self._questions or self.prompts(most) <= self._config.max_prompts:
            return most
        fits, too_many = min(_FEWEST, most), most
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self.prompts(middle) <= self._config.max_prompts:
                fits = middle
            else:
                too_many = middle
        return fits

    @property
    def left_out(self) -> bool:
        """Whether `max_prompts` leaves out answers that the suite would have ranked."""
        wanted = self._config.max_candidates or len(self._vocabulary)
        return self.prompts(self.most) < self.prompts(wanted)

    @cached_property
    def ranked(self) -> tuple[RankedQuestion, ...]:
        """The distinct questions of the test table by what is ranked for them."""
        tested = self._questions["test"]
        rows: dict[tuple[str, _Scope], list[int]] = {}
        for row, key in enumerate(zip(self._keys, self._scopes, strict=True)):
            rows.setdefault(key, []).append(row)
        return tuple(
            RankedQuestion(
                text=tested.texts[places[0]], allowed=self.allowed(scope, self.most), rows=np.array(places)
            )
            for (_, scope), places in rows.items()
        )

    def prompts(self, most: int) -> int:
        """How many distinct prompts there are where at most so many answers are ranked for a question."""
        return sum(
            count * int(np.any([self.allowed(scope, most) for scope in scopes], axis=0).sum())
            for scopes, count in self._alike.items()
        )

    def allowed(self, scope: _Scope, most: int) -> Flags:
        """Which answers are ranked for a question of this kind, [V]; never none."""
        order = self._ordered[scope]
        chosen = np.zeros(len(self._vocabulary), dtype=bool)
        chosen[order[:most]] = True
        return chosen

    @cached_property
    def _keys(self) -> tuple[str, ...]:
        """What tells the prompts of tested rows apart besides the answer."""
        texts = self._questions["test"].texts
        return tuple(map(text_key, texts)) if QUESTION in self._config.template else ("",) * len(texts)

    @cached_property
    def _scopes(self) -> tuple[_Scope, ...]:
        tested, config = self._questions["test"], self._config
        typed, kept = config.candidates == "by_type", config.same_question_type
        pairs = zip(tested.answer_types, tested.question_types, strict=True)
        return tuple(_Scope(one if typed else "", other if kept else "") for one, other in pairs)

    @cached_property
    def _alike(self) -> Mapping[frozenset[_Scope], int]:
        """Kinds in which a question is asked → how many distinct questions are asked in these."""
        scopes: dict[str, set[_Scope]] = {}
        for key, scope in zip(self._keys, self._scopes, strict=True):
            scopes.setdefault(key, set()).add(scope)
        return Counter(map(frozenset, scopes.values()))

    @cached_property
    def _ordered(self) -> Mapping[_Scope, Places]:
        """Kind → all answers that it allows, the most frequent in training first."""
        everywhere = self._frequencies(_Scope("", ""))
        orders = {}
        for scope in dict.fromkeys(self._scopes):
            order = np.lexsort((-everywhere, -self._frequencies(scope)))
            orders[scope] = order[self._kind(scope)[order]]
        return orders

    def _kind(self, scope: _Scope) -> Flags:
        everything = np.ones(len(self._vocabulary), dtype=bool)
        allowed = self._of_type.get(scope.answer_type, everything)
        allowed = allowed if allowed.any() else everything
        narrowed = allowed & self._of_kind.get(scope.question_type, everything)
        return narrowed if narrowed.any() else allowed

    def _frequencies(self, scope: _Scope) -> Ints:
        """How often training questions of this kind have each answer, [V]."""
        if "train" not in self._questions:
            return np.zeros(len(self._vocabulary), dtype=np.int64)
        train = self._questions["train"]
        known = scope.question_type in self._of_kind
        like = [
            scope.answer_type in ("", answer_type) and (not known or scope.question_type == question_type)
            for answer_type, question_type in zip(train.answer_types, train.question_types, strict=True)
        ]
        numbers = self._vocabulary.numbers(train.answers)[np.array(like, dtype=bool)]
        return np.bincount(numbers, minlength=len(self._vocabulary))

    @cached_property
    def _of_type(self) -> Mapping[str, Flags]:
        if self._config.answers:
            closed = self._vocabulary.members(YES_NO)
            return {CLOSED: closed, OPEN: ~closed}
        tables = [self._questions[role] for role in ROLES[self._config.policy] if role in self._questions]
        return answers_by_type(self._vocabulary, tables)

    @cached_property
    def _of_kind(self) -> Mapping[str, Flags]:
        if not self._config.same_question_type:
            return {}
        train = self._questions["train"]
        answers: dict[str, set[str]] = {}
        for kind, answer in zip(train.question_types, train.answers, strict=True):
            answers.setdefault(kind, set()).add(answer)
        return {kind: self._vocabulary.members(numbers) for kind, numbers in answers.items() if kind}
