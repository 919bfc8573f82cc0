"""Configs of visual question answering; loads no torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from meddistill.evaluation.base.task_config import TaskConfig
from meddistill.evaluation.tasks.vqa.protocols import departures, with_published

Policy = Literal["train", "trainval", "all"]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_POLICY_OF: Final[Mapping[str, Policy]] = {"default": "trainval", "m3ae": "all", "mevf": "trainval"}
QUESTION: Final = "{question}"
ANSWER: Final = "{answer}"


class VqaConfig(TaskConfig):
    """What the tasks have that answer a question about an image."""

    test: str
    """The table that is tested: a row an image, a question and its answer."""
    question: str = "question"
    """Column of questions."""
    answer: str = "answer"
    """Column of right answers."""
    answer_type: str | None = None
    """Column that says `open` or `closed`, in any case. Without it yes and no are closed, all else is open.
    """
    question_type: str | None = None
    """Column of kinds of questions (organ, plane, ...), for accuracy by kind. Blank: of no kind."""
    shared_images: Literal["refuse", "report"] = "refuse"
    """Whether training and test rows may share images and patients. `report` counts them and warns; the
    official split of VQA-RAD shares images.
    """

    @property
    def allows_shared(self) -> bool:
        """Whether splits that share images or patients are evaluated all the same."""
        return self.shared_images == "report"

    @property
    def policy(self) -> Policy:
        """Whose answers make the vocabulary."""
        raise NotImplementedError

    def own_columns(self) -> tuple[str, ...]:
        named = (self.question, self.answer, self.answer_type, self.question_type)
        return tuple(column for column in named if column is not None)


class VqaClosedSetConfig(VqaConfig):
    """Questions answered by choice from a set of answers, with a small transformer on the two towers."""

    kind: Literal["vqa_closed_set"]
    """Questions answered by choice from a set of answers, with a small transformer on the two towers."""
    train: str
    """The table to fit on."""
    validation: str | None = None
    """The table that chooses the epoch by accuracy; without one `validation_share` of `train` does."""
    validation_share: float = Field(default=0.1, gt=0, lt=0.9)
    """Share of the training patients, with all rows of their images, that chooses the epoch."""
    protocol: Literal["default", "m3ae", "mevf"] = "default"
    """A published protocol. It sets what the suite leaves out; deviations of the suite are noted. `m3ae`:
    answers of all tables, binary cross-entropy times their number, towers tuned at 5e-6 and the head at fifty
    times that, a linear fall, 50 epochs of 64 for VQA-RAD (set 15 of 32 for SLAKE, 10 of 32 for VQA-Med
    2019). Not followed: the pretrained fusion of two streams at five times the towers' rate (the head is
    smaller, of one direction, not pretrained, at its own rate), the answer layer of two steps, 384 pixels, 32
    tokens and random crops (a model keeps its own input), no weight decay of biases and norms. `mevf`: QCR's
    protocol, which builds on MEVF: open and closed answers of training and validation are sets of their own,
    a classifier of questions says which of them a question is for; binary cross-entropy averaged in each set,
    towers tuned, gradients cut at 0.25, epochs and batches of MEVF (QCR: 200 of 64). Not followed: bilinear
    attention and recurrent word vectors (our head on the model's towers), the autoencoder and its loss,
    Adamax at 0.001 to 0.005 (AdamW at our rates, a cosine), a trained network as classifier of questions (a
    logistic regression), the last epoch or the best on the test table (the best on validation), two units for
    an answer of both sets (one). MEVF itself has a single set of answers.
    """
    answer_vocabulary: Policy | None = None
    """Whose answers can be given: `train`, `trainval` (with those of validation) or `all` (those of the test
    table too, which no honest model could know). By default `trainval`, under `m3ae` `all`.
    """
    towers: Literal["frozen", "tuned"] = "frozen"
    """`frozen`: the head alone learns. `tuned`: a copy of both towers learns with it, for each seed anew,
    which takes an accelerator, or long. `m3ae`, `mevf`: tuned.
    """
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """Over all answers at once, or over each of them. `m3ae`, `mevf`: binary."""
    pooling: Literal["mean", "cls"] = "mean"
    """What of the transformer's output is read: the mean over the question, or a learned token of its own."""
    width: int = Field(default=256, ge=8, le=4096)
    """Of the head; a multiple of `heads`."""
    layers: int = Field(default=2, ge=1, le=12)
    """Of the head."""
    heads: int = Field(default=4, ge=1, le=64)
    """Attention heads of the head."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """In the head."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the training rows; the best on validation counts. `m3ae`: 50, `mevf`: 20."""
    batch_size: int = Field(default=64, ge=1)
    """Questions a step. `mevf`: 32."""
    learning_rate: Rate = 5e-4
    """Of the head: the highest, after a tenth of the steps. `m3ae`: 2.5e-4."""
    tower_learning_rate: Rate = 1e-5
    """Of tuned towers, in the same way. `m3ae`: 5e-6."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How the learning rates fall to zero after the first tenth of the steps. `m3ae`: linear."""
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """Of AdamW."""
    second_moment: float = Field(default=0.999, gt=0, lt=1)
    """Decay of AdamW's mean of squared gradients. `m3ae`: 0.98."""
    clip_norm: Rate | None = None
    """The largest norm of a step's gradients, which are scaled down to it. `mevf`: 0.25."""
    seeds: int = Field(default=3, ge=1, le=100)
    """Fits whose accuracies are averaged."""

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, given: Any) -> Any:
        return with_published(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _consistent(self) -> "VqaClosedSetConfig":
        if self.width % self.heads:
            msg = f"`width` must be a multiple of `heads`; got {self.width} and {self.heads}."
            raise ValueError(msg)
        own = _POLICY_OF[self.protocol]
        if self.protocol != "default" and self.answer_vocabulary not in (None, own):
            msg = (
                f"`answer_vocabulary` must be {own} under protocol {self.protocol}; got "
                f"{self.answer_vocabulary}. Leave it out, or take the default protocol."
            )
            raise ValueError(msg)
        return self

    @property
    def policy(self) -> Policy:
        """Whose answers make the vocabulary."""
        return self.answer_vocabulary or _POLICY_OF[self.protocol]

    @property
    def departures(self) -> tuple[str, ...]:
        """What is set otherwise than the protocol has it."""
        return departures(self.model_dump())


class VqaZeroShotConfig(VqaConfig):
    """Questions answered without training: the answer whose prompt is nearest to the image by cosine."""

    kind: Literal["vqa_zero_shot"]
    """Questions answered without training: the answer whose prompt is nearest to the image by cosine."""
    train: str | None = None
    """The table whose answers are candidates; nothing is learnt from it."""
    validation: str | None = None
    """Another one."""
    answers: list[str] = Field(default=[])
    """The candidates themselves, instead of tables."""
    answer_vocabulary: Policy = "trainval"
    """Whose answers are candidates: `train`, `trainval`, or `all` (those of the test table too)."""
    candidates: Literal["vocabulary", "by_type"] = "vocabulary"
    """`vocabulary`: all answers for every question. `by_type`: those that closed questions of the tables have
    for closed questions, those of open ones for open ones (of listed `answers` yes and no, and the others);
    it gives the model the answer's type.
    """
    same_question_type: bool = False
    """Only answers that the training table has for questions of the same type; needs `question_type`."""
    template: str = "{question} {answer}"
    """The prompt of a question and a candidate."""
    max_candidates: int | None = Field(default=None, ge=2)
    """At most so many answers are ranked for a question: those that training questions have most often, of
    its answer type under `by_type`, of its question type under `same_question_type`. Without it as many as
    `max_prompts` holds. A right answer that is left out counts as wrong, and the coverage says how many are.
    """
    max_prompts: int = Field(default=100_000, ge=1)
    """Distinct prompts (question with answer) that are embedded at most. Where there are more, fewer answers
    are ranked for every question, the most frequent ones, and the results warn. The task is refused where no
    training table shows which are frequent, or where two answers a question are too many.
    """

    @field_validator("template")
    @classmethod
    def _has_an_answer(cls, value: str) -> str:
        if value.count(ANSWER) != 1 or value.count(QUESTION) > 1:
            msg = f"`template` must have {ANSWER} once, and {QUESTION} at most once; got {value!r}."
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _has_candidates(self) -> "VqaZeroShotConfig":
        if bool(self.answers) == (self.train is not None) and self.answer_vocabulary != "all":
            got = "both" if self.answers else "neither"
            msg = f"Candidates must come from `train` or from `answers`; got {got}. Give one of them."
            raise ValueError(msg)
        if self.answers and (self.train is not None or self.validation is not None):
            msg = "`answers` must stand alone; got `train` or `validation` as well. Leave out one of them."
            raise ValueError(msg)
        if self.same_question_type and (self.question_type is None or self.train is None):
            msg = "`same_question_type` must have `question_type` and `train`; one is missing. Name both."
            raise ValueError(msg)
        if self.max_candidates is not None and self.train is None:
            msg = "`max_candidates` must have `train`, whose answers are counted; it is missing. Name it."
            raise ValueError(msg)
        return self

    @property
    def policy(self) -> Policy:
        """Whose answers make the vocabulary."""
        return self.answer_vocabulary
