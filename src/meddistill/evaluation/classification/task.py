"""What all tasks have that give every image a class."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import TableError
from meddistill.evaluation.classification.config import KnnConfig, LinearProbeConfig, ZeroShotConfig
from meddistill.evaluation.classification.predictions import ClassPredictions
from meddistill.evaluation.embeddings import Embeddings
from meddistill.evaluation.predict import Floats
from meddistill.evaluation.tables import Part
from meddistill.evaluation.task import Task

Labelled = TypeVar("Labelled", bound=ZeroShotConfig | LinearProbeConfig | KnnConfig)
Trained = TypeVar("Trained", bound=LinearProbeConfig | KnnConfig)

FEW_PATIENTS: Final = 5


class ClassificationTask(Task[Labelled, ClassPredictions]):
    """Tasks that give every row of a table a score for each class."""

    main = "balanced_accuracy"

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[ClassPredictions],
    ) -> ClassPredictions:
        """The mean of the members' class probabilities."""
        scores = np.mean([each.scores.astype(np.float64) for each in predictions], axis=0)
        return self._predictions(
            predictions[0].classes, scores, predictions[0].settings, predictions[0].seeds
        )

    def check(self) -> None:
        """Raise TableError for a blank or unknown label in any of the tables."""
        for part in self.parts.values():
            self.truth(part, self.classes, self.label)

    def truth(self, part: Part, classes: Sequence[str], label: str) -> NDArray[np.int64]:
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
        warnings = [
            f"fewer than {FEW_PATIENTS} test patients of {', '.join(few)}: read its intervals with care"
        ]
        counts = Counter(labels)
        return {
            "classes": {
                name: {"n": counts[name], "patients": len(patients[name])} for name in sorted(counts)
            },
            "warnings": warnings if few else [],
        }

    @property
    def label(self) -> str:
        """Column of the classes."""
        return self.config.label

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The classes that scores are given for."""

    def _predictions(
        self,
        classes: Sequence[str],
        scores: Floats | NDArray[np.float64],
        settings: Sequence[str] = (),
        seeds: NDArray[np.int64] | None = None,
    ) -> ClassPredictions:
        """`scores` of the tested rows, once or several times one after the other."""
        part = self.tested
        repeats = len(scores) // len(part)
        return ClassPredictions(
            classes=tuple(classes),
            truth=np.tile(self.truth(part, classes, self.label), repeats),
            scores=np.asarray(scores, dtype=np.float64),
            rows=np.tile(np.array(part.samples.rows, dtype=np.int64), repeats),
            samples=self.names(part.samples.ids) * repeats,
            patients=np.tile(part.patients, repeats),
            modalities=part.samples.modalities * repeats,
            settings=tuple(settings) or ("",) * len(scores),
            seeds=np.zeros(len(scores), dtype=np.int64) if seeds is None else seeds,
        )


class ProbeTask(ClassificationTask[Trained]):
    """Tasks that learn from the labels of a training table; they need images alone."""

    needs_text = False

    @property
    def tested(self) -> Part:
        """The test rows."""
        return self.parts["test"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the training table. Raises TableError where it has fewer than two."""
        train = self.parts["train"]
        classes = tuple(sorted(set(train.labels(self.label))))
        if len(classes) < 2:
            rule = (
                f"`{self.label}` must have two classes at least for task `{self.name}`; got "
                f"{classes[0]!r} alone. Widen `where`."
            )
            raise TableError(train.subject, [rule])
        return classes
