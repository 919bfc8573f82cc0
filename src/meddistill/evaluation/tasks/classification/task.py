"""What all tasks have that give every image a class."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.classes import class_facts, class_numbers, training_classes
from meddistill.evaluation.tasks.classification.config import (
    KnnConfig,
    LinearProbeConfig,
    OperatingPoint,
    ZeroShotConfig,
)
from meddistill.evaluation.tasks.classification.predictions import (
    VALIDATION,
    ClassPredictions,
    one_class_only,
)

Labelled = TypeVar("Labelled", bound=ZeroShotConfig | LinearProbeConfig | KnnConfig)
Trained = TypeVar("Trained", bound=LinearProbeConfig | KnnConfig)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Scores [n, C] of all rows of a part under one setting and seed."""

    part: EvalSplit
    scores: Floats
    setting: str = ""
    seed: int = 0


def joined(blocks: Sequence[Block], names: SampleNames) -> dict[str, Any]:
    """What predictions of classes and of labels have of `blocks`, one after the other.

    Rows of the validation table stand below zero: none of them is then taken for another of the test.
    """
    counts = [len(block.part) for block in blocks]
    signs = [-1 if block.setting == VALIDATION else 1 for block in blocks]
    samples = [block.part.samples for block in blocks]
    return {
        "scores": np.concatenate([np.asarray(block.scores, dtype=np.float64) for block in blocks]),
        "rows": np.concatenate([each.rows for each in samples]).astype(np.int64) * np.repeat(signs, counts),
        "samples": tuple(name for each in samples for name in names(each.ids)),
        "patients": np.concatenate([block.part.patients for block in blocks]),
        "modalities": tuple(name for each in samples for name in each.modalities),
        "settings": tuple(block.setting for block in blocks for _ in range(len(block.part))),
        "seeds": np.repeat([block.seed for block in blocks], counts),
    }


class ClassificationTask(Task[Labelled, ClassPredictions]):
    """Tasks that give every row of a table a score for each class."""

    main = "balanced_accuracy"
    probabilities: ClassVar[bool]

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[ClassPredictions],
    ) -> ClassPredictions:
        """The mean of the members' class probabilities."""
        scores = np.mean([each.scores.astype(np.float64) for each in predictions], axis=0)
        return replace(predictions[0], scores=scores)

    def check(self) -> None:
        """Raise TableError for a blank or unknown label in any of the tables."""
        for part in self.parts.values():
            self.truth(part)

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
            truth=np.concatenate([self.truth(block.part) for block in blocks]),
            **joined(blocks, self.names),
            probabilities=self.probabilities,
            ordinal=config.ordinal,
            positive=None if isinstance(config, KnnConfig) else config.positive,
            operating_points=self._points,
        )

    def _validated(self, scores: Floats, *, seed: int = 0) -> Block:
        """Scores of the validation rows, on which temperature and thresholds are fitted."""
        return Block(part=self.parts["validation"], scores=scores, setting=VALIDATION, seed=seed)


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
