"""What all tasks have that give every image a class."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, TypeVar

import numpy as np

from meddistill.errors import TableError
from meddistill.evaluation.arrays import Floats, Ints
from meddistill.evaluation.base.absent import absent_classes
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
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

FEW_PATIENTS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Block:
    """Scores [n, C] of all rows of a part under one setting and seed."""

    part: EvalSplit
    scores: Floats
    setting: str = ""
    seed: int = 0


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
            self.truth(part, self.classes, self.label)

    def truth(self, part: EvalSplit, classes: Sequence[str], label: str) -> Ints:
        """Class number of every row. Raises TableError where a label is none of `classes`."""
        index = {name: number for number, name in enumerate(classes)}
        labels = part.labels(label)
        unknown = Counter(each for each in labels if each not in index)
        if unknown:
            counted = ", ".join(f"{name!r} ({count} rows)" for name, count in unknown.most_common(5))
            rule = (
                f"`{label}` must be a class of task `{self.name}` ({', '.join(classes)}); got {counted}. "
                "Add the classes, or leave these rows out by `where`."
            )
            raise TableError(part.subject, [rule])
        return np.array([index[each] for each in labels], dtype=np.int64)

    def facts(self) -> dict[str, Any]:
        """Rows and patients of each class among the tested rows."""
        labels = self.tested.labels(self.label)
        patients: dict[str, set[int]] = {}
        for label, patient in zip(labels, self.tested.patients.tolist(), strict=True):
            patients.setdefault(label, set()).add(patient)
        few = [name for name in sorted(patients) if len(patients[name]) < FEW_PATIENTS]
        warnings = absent_classes(self.classes, self.truth(self.tested, self.classes, self.label).tolist())
        if few:
            warnings.append(
                f"fewer than {FEW_PATIENTS} test patients of {', '.join(few)}: read its intervals with care"
            )
        warnings += self._unfitted()
        counts = Counter(labels)
        return {
            "classes": {
                name: {"n": counts[name], "patients": len(patients[name])} for name in sorted(counts)
            },
            "warnings": warnings,
        }

    def _unfitted(self) -> list[str]:
        """What cannot be fitted, or is fitted badly, on rows that are all of one class."""
        role = "validation" if "validation" in self.parts else ""
        part = self.parts[role] if role else self.tested
        said = one_class_only(self.truth(part, self.classes, self.label), self.classes, role=role)
        if not said:
            return []
        fitted = ["operating points are not defined"] if self._points else []
        fitted += ["what is fitted on validation says little"] if role else []
        return [f"{' and '.join(fitted)}: {said}"] if fitted else []

    @property
    def _points(self) -> tuple[OperatingPoint, ...]:
        config = self.config
        return () if isinstance(config, KnnConfig) else tuple(config.operating_points)

    @property
    def label(self) -> str:
        """Column of the classes."""
        return self.config.label

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The classes that scores are given for."""

    def _predictions(self, classes: Sequence[str], blocks: Sequence[Block]) -> ClassPredictions:
        """`blocks` one after the other."""
        config = self.config
        # Rows of the validation table below zero: no row of the dump is then taken for another of the test.
        signs = [-1 if block.setting == VALIDATION else 1 for block in blocks]
        rows = [
            sign * np.array(block.part.samples.rows, dtype=np.int64)
            for sign, block in zip(signs, blocks, strict=True)
        ]
        return ClassPredictions(
            classes=tuple(classes),
            truth=np.concatenate([self.truth(block.part, classes, self.label) for block in blocks]),
            scores=np.concatenate([np.asarray(block.scores, dtype=np.float64) for block in blocks]),
            rows=np.concatenate(rows),
            samples=tuple(name for block in blocks for name in self.names(block.part.samples.ids)),
            patients=np.concatenate([block.part.patients for block in blocks]),
            modalities=tuple(name for block in blocks for name in block.part.samples.modalities),
            settings=tuple(block.setting for block in blocks for _ in range(len(block.part))),
            seeds=np.concatenate([np.full(len(block.part), block.seed, dtype=np.int64) for block in blocks]),
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

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the config, or of the training table. Raises TableError where these are fewer than two."""
        if self.config.classes is not None:
            return tuple(self.config.classes)
        train = self.parts["train"]
        classes = tuple(sorted(set(train.labels(self.label))))
        if len(classes) < 2:
            rule = (
                f"`{self.label}` must have two classes at least for task `{self.name}`; got "
                f"{classes[0]!r} alone. Widen `where`."
            )
            raise TableError(train.subject, [rule])
        return classes
