"""The questions of a table, and the set of answers that a model may give."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.data.samples import count_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.vqa.answer_form import normalize_answer
from meddistill.evaluation.tasks.vqa.config import Policy, VqaConfig

OPEN: Final = "open"
CLOSED: Final = "closed"
YES_NO: Final = ("yes", "no")
OUTSIDE: Final = -1
# Policy → the tables whose answers make the vocabulary.
ROLES: Final[Mapping[Policy, tuple[str, ...]]] = MappingProxyType(
    {"train": ("train",), "trainval": ("train", "validation"), "all": ("train", "validation", "test")}
)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions as in the table, their answers normalised, `open` or `closed`, and kinds ("" for none)."""

    texts: tuple[str, ...]
    answers: tuple[str, ...]
    answer_types: tuple[str, ...]
    question_types: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


def read_questions(part: EvalSplit, config: VqaConfig) -> Questions:
    """The questions of all rows of a table.

    Raises TableError, with row numbers, for a blank question or answer, or an answer type that is neither
    open nor closed.
    """
    answers = tuple(normalize_answer(answer) for answer in part.labels(config.answer))
    none = ("",) * len(part)
    kinds = none if config.question_type is None else part.samples.columns[config.question_type]
    return Questions(
        texts=part.labels(config.question),
        answers=answers,
        answer_types=_answer_types(part, config.answer_type, answers),
        question_types=tuple(kind.strip() for kind in kinds),
    )


def _answer_types(part: EvalSplit, column: str | None, answers: Sequence[str]) -> tuple[str, ...]:
    if column is None:
        return tuple(CLOSED if answer in YES_NO else OPEN for answer in answers)
    types = tuple(cell.strip().lower() for cell in part.labels(column))
    wrong = [row for row, each in zip(part.samples.rows, types, strict=True) if each not in (OPEN, CLOSED)]
    if wrong:
        rule = f"`{column}` must be open or closed; it is neither in {count_rows(wrong)}. Correct these rows."
        raise TableError(part.subject, [rule])
    return types


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The answers that can be given, in alphabetical order.

    `sources` tells for each where it is found first: role of the table, row of it (from 1); None for an
    answer that no table has.
    """

    answers: tuple[str, ...]
    sources: tuple[tuple[str, int] | None, ...]

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Answer → its number."""
        return {answer: number for number, answer in enumerate(self.answers)}

    def numbers(self, answers: Iterable[str]) -> Ints:
        """Number of every answer, OUTSIDE for one that is not in the set; [n]."""
        return np.fromiter((self.index.get(answer, OUTSIDE) for answer in answers), np.int64)

    def members(self, answers: Iterable[str]) -> Flags:
        """Which of the vocabulary are among `answers`; [V]."""
        chosen = np.zeros(len(self), dtype=bool)
        numbers = self.numbers(answers)
        chosen[numbers[numbers != OUTSIDE]] = True
        return chosen


def vocabulary_of(parts: Mapping[str, EvalSplit], questions: Mapping[str, Questions]) -> Vocabulary:
    """All answers of the tables of `questions` (role → questions), the first table's rows first."""
    sources: dict[str, tuple[str, int]] = {}
    for role, own in questions.items():
        for answer, row in zip(own.answers, parts[role].samples.rows, strict=True):
            sources.setdefault(answer, (role, row))
    answers = tuple(sorted(sources))
    return Vocabulary(answers=answers, sources=tuple(sources[answer] for answer in answers))


def listed_vocabulary(answers: Sequence[str]) -> Vocabulary:
    """The vocabulary of a suite that lists its answers."""
    distinct = tuple(sorted({normalize_answer(answer) for answer in answers}))
    return Vocabulary(answers=distinct, sources=(None,) * len(distinct))


def answers_by_type(vocabulary: Vocabulary, tables: Iterable[Questions]) -> Mapping[str, Flags]:
    """`open` and `closed` → which answers of the vocabulary, [V], questions of that type have in `tables`."""
    by_type: dict[str, set[str]] = {OPEN: set(), CLOSED: set()}
    for questions in tables:
        for answer, answer_type in zip(questions.answers, questions.answer_types, strict=True):
            by_type[answer_type].add(answer)
    return {answer_type: vocabulary.members(answers) for answer_type, answers in by_type.items()}


def shares_by(
    kinds: Sequence[str], numbers: Ints, size: int, *, wanted: Collection[str]
) -> Mapping[str, Floats]:
    """Kind → share of each answer among its rows, [V], for the `wanted` ones that have any.

    Rows with an answer outside are left out.
    """
    rows: dict[str, list[int]] = {}
    for kind, number in zip(kinds, numbers.tolist(), strict=True):
        if number != OUTSIDE:
            rows.setdefault(kind, []).append(number)
    chosen = {kind: rows[kind] for kind in dict.fromkeys(wanted) if kind in rows}
    return {kind: np.bincount(each, minlength=size) / len(each) for kind, each in chosen.items()}


def counted(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, by name; "" is left out."""
    return {value: count for value, count in sorted(Counter(values).items()) if value}
