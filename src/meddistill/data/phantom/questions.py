"""Questions about an image with their answers, closed (yes, no or a choice) and open."""

from typing import Literal, NamedTuple

import numpy as np

from meddistill.data.phantom.captions import pick, with_article
from meddistill.data.phantom.draw import Case
from meddistill.data.phantom.vocabulary import WORDS

AnswerType = Literal["closed", "open"]
QuestionType = Literal["modality", "anatomy", "abnormality", "position", "size"]


class Question(NamedTuple):
    """One question about one image. Answers are lower case but for abbreviations."""

    question: str
    answer: str
    answer_type: AnswerType
    question_type: QuestionType


def questions(rng: np.random.Generator, case: Case, *, count: int = 4) -> list[Question]:
    """`count` different questions: always one on the abnormality, the others drawn from all that fit."""
    pool = [*_general(rng, case), *([] if case.finding.normal else _lesion(rng, case))]
    about = _abnormality(rng, case)
    rest = [*about[1:], *pool]
    order = rng.permutation(len(rest))[: count - 1]
    return [about[0], *(rest[i] for i in order.tolist())]


def _general(rng: np.random.Generator, case: Case) -> list[Question]:
    words = WORDS[case.modality]
    other = pick(rng, [WORDS[key].label for key in WORDS if key != case.modality])
    shown = words.label if rng.random() < 0.5 else other
    return [
        Question(
            pick(rng, ("What kind of image is this?", "Which modality was used?", "How was the image made?")),
            words.label,
            "open",
            "modality",
        ),
        Question(f"Is this {with_article(shown)}?", _yes(shown == words.label), "closed", "modality"),
        Question(
            pick(rng, ("Which part of the body is shown?", "What anatomy does the image show?")),
            words.anatomy,
            "open",
            "anatomy",
        ),
    ]


def _abnormality(rng: np.random.Generator, case: Case) -> list[Question]:
    sick = [finding for finding in WORDS[case.modality].findings if not finding.normal]
    asked = case.finding if not case.finding.normal and rng.random() < 0.5 else sick[int(rng.integers(2))]
    name = pick(rng, asked.names)
    closed = Question(
        pick(rng, (f"Is there evidence of {name}?", f"Does the image show {name}?")),
        _yes(asked is case.finding),
        "closed",
        "abnormality",
    )
    normal = Question(
        pick(rng, ("Is this image normal?", "Is the study unremarkable?")),
        _yes(case.finding.normal),
        "closed",
        "abnormality",
    )
    what = Question(
        pick(rng, ("What is the main finding?", "What abnormality is seen?")),
        "none" if case.finding.normal else case.finding.label,
        "open",
        "abnormality",
    )
    listed = [closed, normal, what]
    return [listed[i] for i in rng.permutation(3).tolist()]


def _lesion(rng: np.random.Generator, case: Case) -> list[Question]:
    label, finding = case.finding.label, case.finding
    asked: list[Question] = []
    if finding.graded_by_size:
        choices = ", ".join(finding.grades[:2]) + f" or {finding.grades[2]}"
        asked.append(Question(f"Is the {label} {choices}?", finding.grades[case.grade - 1], "closed", "size"))
    else:
        asked.append(Question(f"Is the {label} small, moderate or large?", case.size_word, "closed", "size"))
    if case.side:
        asked.append(
            Question(
                pick(rng, (f"On which side is the {label}?", f"Which side shows the {label}?")),
                case.side,
                "open",
                "position",
            )
        )
        asked.append(
            Question(f"Is the {label} on the left side?", _yes(case.side == "left"), "closed", "position")
        )
    if case.place:
        asked.append(Question(f"Where is the {label}?", case.where, "open", "position"))
    return asked


def _yes(condition: bool) -> str:  # noqa: FBT001 - the answer to a question
    return "yes" if condition else "no"
