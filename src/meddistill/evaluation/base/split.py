"""The rows of one table that a task sees."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meddistill.arrays import Ints
from meddistill.data.keys import image_keys
from meddistill.data.samples import Samples, name_rows
from meddistill.errors import TableError


@dataclass(frozen=True, kw_only=True)
class EvalSplit:
    """The rows of one table that a task sees.

    `keys` are the images' content keys; `patients` [n] number the patients of the whole suite, so that a
    patient has one number in all tables. Relative paths of the suite start at `base`.
    """

    table: str
    samples: Samples
    keys: tuple[str, ...]
    patients: Ints
    base: Path = Path()

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, positions: Sequence[int] | Ints) -> "EvalSplit":
        """The rows at these positions (from 0), in this order."""
        return replace(
            self,
            samples=self.samples.take(positions),
            keys=tuple(self.keys[position] for position in positions),
            patients=self.patients[positions],
        )

    @property
    def subject(self) -> str:
        """What messages call the table."""
        return f"table {self.table}"

    def labels(self, column: str) -> tuple[str, ...]:
        """The labels of all rows. Raises TableError, with row numbers, where one is blank."""
        labels = self.samples.columns[column]
        blank = [row for row, label in zip(self.samples.rows, labels, strict=True) if not label]
        if blank:
            rule = (
                f"`{column}` must not be blank; it is in {name_rows(blank)}. Label or leave out these rows."
            )
            raise TableError(self.subject, [rule])
        return labels

    def digest(self, columns: Sequence[str], images: Sequence[str] = ()) -> str:
        """Hash of all that predictions on these rows depend on, `columns` and `images` beside included."""
        samples = self.samples
        content: list[Any] = [self.keys, samples.rows, samples.ids, samples.modalities, samples.texts]
        content += [self.patients.tolist(), [samples.columns[name] for name in columns]]
        content += [image_keys(replace(samples, refs=samples.images[name])) for name in images]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()
