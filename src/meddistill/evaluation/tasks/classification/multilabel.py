"""What the tasks have that evaluate several labels of every image, each by itself."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np

from meddistill.arrays import Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.classification.classes import FEW_PATIENTS
from meddistill.evaluation.tasks.classification.label_metrics import UNKNOWN
from meddistill.evaluation.tasks.classification.label_predictions import (
    MAIN,
    LabelPredictions,
    one_value_only,
)
from meddistill.evaluation.tasks.classification.multilabel_config import (
    LinearProbeMultilabelConfig,
    ZeroShotMultilabelConfig,
)
from meddistill.evaluation.tasks.classification.task import Block, ScoringTask

Labelled = TypeVar("Labelled", bound=ZeroShotMultilabelConfig | LinearProbeMultilabelConfig)

_PRESENT, _ABSENT = 1, 0
_CELLS: Final = {"1": _PRESENT, "1.0": _PRESENT, "0": _ABSENT, "0.0": _ABSENT, "-1": UNKNOWN, "-1.0": UNKNOWN}


class MultilabelTask(ScoringTask[Labelled, LabelPredictions]):
    """Tasks that give every row of a table a probability for each of several labels."""

    main = MAIN

    def truth(self, part: EvalSplit) -> Ints:
        """Truth of every label in every row, [n, L]: 1, 0, or -1 where it is not known.

        Raises TableError for a cell of a label's own column that is none of 1, 0, -1 and blank.
        """
        labels, columns = self.config.labels, part.samples.columns
        if isinstance(labels, list):
            cells = [
                {each.strip() for each in cell.split(self.config.separator)}
                for cell in columns[self.config.label]
            ]
            return np.array([[int(label in cell) for label in labels] for cell in cells], dtype=np.int64)
        blank = UNKNOWN if self.config.blank == "unknown" else _ABSENT
        values = {**_CELLS, "": blank}
        mistakes = []
        for column in dict.fromkeys(labels.values()):
            stripped = [cell.strip() for cell in columns[column]]
            bad = [row for row, cell in zip(part.samples.rows, stripped, strict=True) if cell not in values]
            if bad:
                rule = f"`{column}` must be 1, 0, -1 or blank; it is not in {name_rows(bad)}."
                mistakes.append(f"{rule} Mend or leave out these rows.")
        TableError.raise_any(part.subject, mistakes)
        return np.array(
            [[values[cell.strip()] for cell in columns[column]] for column in labels.values()], dtype=np.int64
        ).T

    def facts(self) -> dict[str, Any]:
        """Of each label the tested rows that have it, their patients, and the rows that are known."""
        truth, patients = self.truth(self.tested), self.tested.patients
        labels: dict[str, dict[str, int]] = {}
        undefined, few = [], []
        for column, label in enumerate(self.config.names()):
            present, known = truth[:, column] == _PRESENT, truth[:, column] != UNKNOWN
            people = len(np.unique(patients[present]))
            labels[label] = {"n": int(present.sum()), "patients": people, "known": int(known.sum())}
            if not present.any() or (present == known).all():
                undefined.append(f"{label} ({'no positive' if not present.any() else 'no negative'} row)")
            elif people < FEW_PATIENTS:
                few.append(label)
        warnings = []
        if undefined:
            warnings.append(f"left out of the means over labels: {', '.join(undefined)}")
        if few:
            warnings.append(
                f"fewer than {FEW_PATIENTS} positive test patients of {', '.join(few)}: "
                "read its intervals with care"
            )
        warnings += self._unfitted()
        return {"labels": labels, "warnings": warnings}

    def _unfitted(self) -> list[str]:
        """The labels whose operating points are not defined, with the reason."""
        role = "validation" if "validation" in self.parts else "tested"
        truth = self.truth(self.parts["validation"] if role == "validation" else self.tested)
        named = []
        for label, column in zip(self.config.names(), truth.T, strict=True):
            said = one_value_only(column[column != UNKNOWN] == _PRESENT, role=role)
            named += [f"{label} ({said})"] if said else []
        if not named or not self.config.operating_points:
            return []
        return [f"operating points are not defined of {', '.join(named)}"]

    def _predictions(self, blocks: Sequence[Block]) -> LabelPredictions:
        """`blocks` one after the other."""
        return LabelPredictions(
            labels=self.config.names(),
            **self._score_rows(blocks),
            operating_points=tuple(self.config.operating_points),
        )
