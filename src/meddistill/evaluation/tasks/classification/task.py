"""What all tasks have that give every image a class."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Config, Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.classes import class_facts, class_numbers, training_classes
from meddistill.evaluation.tasks.classification.config import (
    KnnConfig,
    LinearProbeConfig,
    OperatingPoint,
    ZeroShotConfig,
)
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions, one_class_only
from meddistill.evaluation.tasks.classification.score_predictions import VALIDATION, ScorePredictions

Scored = TypeVar("Scored", bound=ScorePredictions)
Labelled = TypeVar("Labelled", bound=ZeroShotConfig | LinearProbeConfig | KnnConfig)
Trained = TypeVar("Trained", bound=LinearProbeConfig | KnnConfig)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Scores [n, C] of all rows of a part under one setting and seed."""

    part: EvalSplit
    scores: Floats
    setting: str = ""
    seed: int = 0


class ScoringTask(Task[Config, Scored]):
    """Tasks that give every row of a table a score for each of several classes or labels."""

    probabilities: ClassVar[bool]

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[Scored],
    ) -> Scored:
        """The mean of the members' probabilities, as CheXzero averages its checkpoints."""
        return replace(predictions[0], scores=np.mean([each.scores for each in predictions], axis=0))

    def check(self) -> None:
        """Raise TableError for a blank or unknown label, or a cell that is no truth, in any of the tables."""
        for part in self.parts.values():
            self.truth(part)

    @abstractmethod
    def truth(self, part: EvalSplit) -> Ints:
        """The truth of every row. Raises TableError where it cannot be read."""

    def _features(self, embeddings: Embeddings) -> dict[str, Floats]:
        """Role → image embeddings of its rows."""
        parts = self.parts.items()
        return {role: embeddings.images(each.samples, each.keys).astype(np.float64) for role, each in parts}

    def _validated(self, scores: Floats, *, seed: int = 0) -> Block:
        """Scores of the validation rows, on which temperatures and thresholds are fitted."""
        return Block(part=self.parts["validation"], scores=scores, setting=VALIDATION, seed=seed)

    def _score_rows(self, blocks: Sequence[Block]) -> dict[str, Any]:
        """What predictions have of `blocks`, one after the other.

        Rows of the validation table stand below zero: none of them is then taken for another of the test.
        """
        counts = [len(block.part) for block in blocks]
        signs = np.repeat([-1 if block.setting == VALIDATION else 1 for block in blocks], counts)
        samples = [block.part.samples for block in blocks]
        return {
            "truth": np.concatenate([self.truth(block.part) for block in blocks]),
            "scores": np.concatenate([np.asarray(block.scores, dtype=np.float64) for block in blocks]),
            "rows": np.concatenate([each.rows for each in samples]).astype(np.int64) * signs,
            "samples": tuple(name for each in samples for name in self.names(each.ids)),
            "patients": np.concatenate([block.part.patients for block in blocks]),
            "modalities": tuple(name for each in samples for name in each.modalities),
            "settings": tuple(block.setting for block in blocks for _ in range(len(block.part))),
            "seeds": np.repeat([block.seed for block in blocks], counts),
            "probabilities": self.probabilities,
        }


class ClassificationTask(ScoringTask[Labelled, ClassPredictions]):
    """Tasks that give every row of a table a score for each class."""

    main = "balanced_accuracy"

    def truth(self, part: EvalSplit) -> Ints:
        """Class number of every row. Raises TableError where a label is none of the classes."""
        column = self.config.label
        labels = part.labels(column)
        return class_numbers(part, labels, self.classes, column=column, task=self.name, of="rows")

    def facts(self) -> dict[str, Any]:
        """Rows and patients of each class among the tested rows."""
        facts = class_facts(self.tested.labels(self.config.label), self.tested.patients, self.classes)
        return {**facts, "warnings": [*facts["warnings"], *self._unfitted()]}

    def _unfitted(self) -> list[str]:
        """What cannot be fitted, or is fitted badly, on rows that are all of one class."""
        role = "validation" if "validation" in self.parts else ""
        part = self.parts[role] if role else self.tested
        why = one_class_only(self.truth(part), self.classes, role=role)
        if not why:
            return []
        fitted = ["operating points are not defined"] if self._points else []
        fitted += ["what is fitted on validation is unreliable"] if role else []
        return [f"{' and '.join(fitted)}: {why}"] if fitted else []

    @property
    def _points(self) -> tuple[OperatingPoint, ...]:
        config = self.config
        return () if isinstance(config, KnnConfig) else tuple(config.operating_points)

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The classes that scores are given for."""

    def _predictions(self, blocks: Sequence[Block]) -> ClassPredictions:
        """`blocks` one after the other."""
        config = self.config
        return ClassPredictions(
            classes=self.classes,
            **self._score_rows(blocks),
            ordinal=config.ordinal,
            positive=None if isinstance(config, KnnConfig) else config.positive,
            operating_points=self._points,
        )


class ProbeTask(ClassificationTask[Trained]):
    """Tasks that learn from the labels of a training table; they need images alone."""

    needs_text = False

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Those of the config, or of the training table. Raises TableError where these are fewer than two."""
        if self.config.classes is not None:
            return tuple(self.config.classes)
        train, column = self.parts["train"], self.config.label
        return training_classes(train, train.labels(column), column=column, task=self.name)
