"""Answers without training: the candidate whose prompt is nearest to the image."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import ConfigError
from meddistill.evaluation.classification.zero_shot import DEFAULT_LOGIT_SCALE
from meddistill.evaluation.embeddings import Embeddings
from meddistill.evaluation.predict import Floats, normalised
from meddistill.evaluation.vqa.config import ANSWER, QUESTION, VqaZeroShotConfig
from meddistill.evaluation.vqa.predictions import VqaPredictions
from meddistill.evaluation.vqa.questions import CLOSED, YES_NO, Mask, Vocabulary, listed_vocabulary
from meddistill.evaluation.vqa.task import VqaTask

_AT_ONCE: Final = 8192
_DIGITS: Final = 6  # of cosines: float32 products of equal vectors differ beyond them


@final
class VqaZeroShot(VqaTask[VqaZeroShotConfig]):
    """p(answer | image, question) = softmax over candidates of (logit scale x cosine(image, prompt)).

    The prompt is `template` filled with the question as it stands in the table and the answer as it is
    compared (`normalise_answer`). Cosines are rounded to six digits, so that prompts which a model cannot
    tell apart share the answer instead of leaving it to the last bit. There is no published protocol of a
    dual encoder for this; closed scores of it are not those of generative models.
    """

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The candidates: those of the suite, or of the tables that the policy names."""
        listed = self.config.answers
        return listed_vocabulary(listed) if listed else super().vocabulary

    @property
    def policy_in_words(self) -> str:
        """Whose answers are candidates."""
        return "listed in the suite" if self.config.answers else self.config.policy

    @cached_property
    def candidates(self) -> list[tuple[str, Mask, NDArray[np.intp]]]:
        """Question, which answers [V] are ranked for it, and the tested rows it is asked in."""
        asked = self.asked["test"]
        rows: dict[tuple[str, bytes], list[int]] = {}
        allowed: dict[bytes, Mask] = {}
        for row, text in enumerate(asked.texts):
            mask = self._allowed(asked.answer_types[row], asked.question_types[row])
            allowed[mask.tobytes()] = mask
            rows.setdefault((text, mask.tobytes()), []).append(row)
        return [(text, allowed[key], np.array(found)) for (text, key), found in rows.items()]

    @property
    def prompts(self) -> int:
        """How many prompts have to be embedded."""
        asked: dict[str, Mask] = {}
        for text, mask, _ in self.candidates:
            asked[text] = asked[text] | mask if text in asked else mask
        return sum(int(mask.sum()) for mask in asked.values())

    def check(self) -> None:
        """Raise TableError for bad rows, ConfigError for more prompts than `most_prompts`."""
        super().check()
        if self.prompts > self.config.most_prompts:
            rule = (
                f"`most_prompts` must not be exceeded; {len({text for text, _, _ in self.candidates}):,} "
                f"questions with {len(self.vocabulary):,} answers make {self.prompts:,} prompts, over "
                f"{self.config.most_prompts:,}. Narrow the candidates (`candidates: by_type`, "
                "`same_question_type`), leave out rows by `where`, or raise it."
            )
            subject = f"task {self.name}"
            raise ConfigError(subject, [rule])

    def predict(self, embeddings: Embeddings) -> VqaPredictions:
        """Probabilities of the candidates for every question."""
        self.check()
        images = normalised(embeddings.images(self.tested.samples, self.tested.keys))
        scale = embeddings.model.logit_scale or DEFAULT_LOGIT_SCALE
        scores = np.zeros((len(self.tested), len(self.vocabulary)))
        for (_, mask, rows), prompts in self._embedded(embeddings):
            cosines = np.round((images[rows] @ prompts.T).astype(np.float64), _DIGITS)
            likely = np.exp(scale * (cosines - cosines.max(axis=1, keepdims=True)))
            scores[np.ix_(rows, np.flatnonzero(mask))] = likely / likely.sum(axis=1, keepdims=True)
        return self._predictions([scores])

    def facts(self) -> dict[str, Any]:
        """What all such tasks say, the number of prompts, and what guessing among candidates scores."""
        truth, chance = self.truth("test"), 0.0
        for _, mask, rows in self.candidates:
            hits = mask[np.maximum(truth[rows], 0)] & (truth[rows] >= 0)
            chance += float(hits.sum()) / float(mask.sum())
        return {
            **super().facts(),
            "prompts": self.prompts,
            "template": self.config.template,
            "chance": chance / len(self.tested),
        }

    def _allowed(self, answer_type: str, question_type: str) -> Mask:
        everything = np.ones(len(self.vocabulary), dtype=bool)
        allowed = everything
        if self.config.candidates == "by_type":
            closed = self.vocabulary.members(YES_NO)
            allowed = closed if answer_type == CLOSED else ~closed
            allowed = allowed if allowed.any() else everything
        if self.config.same_question_type and question_type:
            narrowed = allowed & self._of_kind.get(question_type, everything)
            allowed = narrowed if narrowed.any() else allowed
        return allowed

    @cached_property
    def _of_kind(self) -> dict[str, Mask]:
        train = self.asked["train"]
        answers: dict[str, set[str]] = {}
        for kind, answer in zip(train.question_types, train.answers, strict=True):
            answers.setdefault(kind, set()).add(answer)
        return {kind: self.vocabulary.members(found) for kind, found in answers.items()}

    def _embedded(
        self, embeddings: Embeddings
    ) -> Iterator[tuple[tuple[str, Mask, NDArray[np.intp]], Floats]]:
        """Every question with the prompts of its candidates [c, d]; many questions are embedded at once."""
        waiting: list[tuple[str, Mask, NDArray[np.intp]]] = []
        texts: list[str] = []
        for number, each in enumerate(self.candidates, start=1):
            waiting.append(each)
            texts += [self._prompt(each[0], answer) for answer in np.flatnonzero(each[1]).tolist()]
            if len(texts) >= _AT_ONCE or number == len(self.candidates):
                ends = np.cumsum([int(mask.sum()) for _, mask, _ in waiting])[:-1]
                yield from zip(waiting, np.split(normalised(embeddings.texts(texts)), ends), strict=True)
                waiting, texts = [], []

    def _prompt(self, question: str, answer: int) -> str:
        words = self.vocabulary.answers[answer]
        # The answer last: a question may hold a brace of its own.
        before, after = (part.replace(QUESTION, question) for part in self.config.template.split(ANSWER))
        return f"{before}{words}{after}"
