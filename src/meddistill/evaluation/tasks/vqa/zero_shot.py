"""Answers without training: the candidate whose prompt is nearest to the image."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final, final

import numpy as np

from meddistill.arrays import Flags, Floats, Floats32
from meddistill.errors import ConfigError
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.zero_shot import DEFAULT_LOGIT_SCALE
from meddistill.evaluation.tasks.vqa.candidates import Candidates, RankedQuestion
from meddistill.evaluation.tasks.vqa.config import ANSWER, QUESTION, VqaZeroShotConfig
from meddistill.evaluation.tasks.vqa.predictions import VqaPredictions
from meddistill.evaluation.tasks.vqa.questions import OUTSIDE, Vocabulary, listed_vocabulary
from meddistill.evaluation.tasks.vqa.task import VqaTask

_AT_ONCE: Final = 8192
_DIGITS: Final = 6  # of cosines: float32 products of equal vectors differ beyond them


@final
class VqaZeroShot(VqaTask[VqaZeroShotConfig]):
    """p(answer | image, question) = softmax over candidates of (logit scale x cosine(image, prompt)).

    The prompt is `template` filled with the question as it stands in the table and the answer as it is
    compared (`normalize_answer`). Cosines are rounded to six digits, so that prompts which a model cannot
    tell apart share the answer instead of leaving it to the last bit. There is no published protocol of a
    dual encoder for this; closed scores of it are not those of generative models.
    """

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The candidates: those of the suite, or of the tables that the policy names."""
        listed = self.config.answers
        return listed_vocabulary(listed) if listed else super().vocabulary

    @property
    def policy_description(self) -> str:
        """Whose answers are candidates."""
        return "listed in the suite" if self.config.answers else self.config.policy

    @cached_property
    def candidates(self) -> Candidates:
        """Which answers are ranked for which question."""
        return Candidates(self.config, self.questions, self.vocabulary)

    @property
    def prompts(self) -> int:
        """How many prompts have to be embedded."""
        return self.candidates.prompts(self.candidates.most)

    @cached_property
    def allowed(self) -> Flags:
        """Which answers are ranked for every test question, [n, V]."""
        mask = np.zeros((len(self.tested), len(self.vocabulary)), dtype=bool)
        for question in self.candidates.ranked:
            mask[question.rows] = question.allowed
        return mask

    @property
    def answerable(self) -> Flags:
        """Test questions whose right answer is ranked, [n]."""
        truth = self.truth("test")
        return (truth != OUTSIDE) & self.allowed[np.arange(len(truth)), np.maximum(truth, 0)]

    def check(self) -> None:
        """Raise TableError for bad rows, ConfigError for prompts that cannot be brought to `max_prompts`."""
        super().check()
        if self.prompts > self.config.max_prompts:
            rule = (
                f"`max_prompts` must not be exceeded; {len(set(self.questions['test'].texts)):,} questions "
                f"with {self.candidates.most:,} answers each make {self.prompts:,} prompts, over "
                f"{self.config.max_prompts:,}. Narrow the candidates (`candidates: by_type`, "
                "`same_question_type`, fewer `answers`), leave out rows by `where`, or raise it."
            )
            raise ConfigError(self.config.subject, [rule])

    def predict(self, embeddings: Embeddings) -> VqaPredictions:
        """Probabilities of the candidates for every question."""
        self.check()
        images = normalized(embeddings.images(self.tested.samples, self.tested.keys))
        scale = embeddings.model.logit_scale or DEFAULT_LOGIT_SCALE
        scores = np.zeros((len(self.tested), len(self.vocabulary)))
        for question, prompts in self._embedded(embeddings):
            cosines = np.round((images[question.rows] @ prompts.T).astype(np.float64), _DIGITS)
            likely = np.exp(scale * (cosines - cosines.max(axis=1, keepdims=True)))
            likely /= likely.sum(axis=1, keepdims=True)
            scores[np.ix_(question.rows, np.flatnonzero(question.allowed))] = likely
        return self._predictions([scores])

    def facts(self) -> dict[str, Any]:
        """What all such tasks say, the number of prompts, and what guessing among candidates scores."""
        facts, ranked = super().facts(), self.allowed.sum(axis=1)
        if self.candidates.left_out:
            facts["warnings"].insert(0, self._left_out())
        return {
            **facts,
            "candidates": int(ranked.max()),
            "prompts": self.prompts,
            "template": self.config.template,
            "chance": float((self.answerable / ranked).mean()),
        }

    def _left_out(self) -> str:
        wanted = self.config.max_candidates or len(self.vocabulary)
        return (
            f"of up to {wanted} answers to a question only the {self.candidates.most} most frequent ones in "
            f"training are ranked: `max_prompts` ({self.config.max_prompts:,}) holds no more"
        )

    def _among_allowed(self, scores: Floats) -> Floats:
        among = np.where(self.allowed, scores, 0.0)
        none = ~among.any(axis=1)
        among[none] = self.allowed[none]
        shares: Floats = among / among.sum(axis=1, keepdims=True)
        return shares

    def _embedded(self, embeddings: Embeddings) -> Iterator[tuple[RankedQuestion, Floats32]]:
        """Every question with the prompts of its candidates [c, d]; many questions are embedded at once."""
        waiting: list[RankedQuestion] = []
        texts: list[str] = []
        ranked = self.candidates.ranked
        for number, question in enumerate(ranked, start=1):
            waiting.append(question)
            texts += [
                self._prompt(question.text, answer) for answer in np.flatnonzero(question.allowed).tolist()
            ]
            if len(texts) >= _AT_ONCE or number == len(ranked):
                ends = np.cumsum([int(each.allowed.sum()) for each in waiting])[:-1]
                yield from zip(waiting, np.split(normalized(embeddings.texts(texts)), ends), strict=True)
                waiting, texts = [], []

    def _prompt(self, question: str, answer: int) -> str:
        words = self.vocabulary.answers[answer]
        # The answer last: a question may hold a brace of its own.
        before, after = (part.replace(QUESTION, question) for part in self.config.template.split(ANSWER))
        return f"{before}{words}{after}"
