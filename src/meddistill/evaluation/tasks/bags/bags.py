"""Rows of a table as bags: which rows belong together, and the one label of each bag."""

from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.split import EvalSplit


@dataclass(frozen=True, kw_only=True)
class Bags:
    """The bags of one table in the order of their first rows.

    `names` are values of the bag column, or patients; `instances` the positions (from 0) of each bag's rows;
    `labels` one for each bag.
    """

    part: EvalSplit
    names: tuple[str, ...]
    instances: tuple[Ints, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def first(self) -> Ints:
        """Position of the first row of each bag."""
        return np.array([each[0] for each in self.instances], dtype=np.int64)


def bags_of(part: EvalSplit, *, bag: str | None, label: str) -> Bags:
    """The bags of `part`: rows with one value in column `bag`, by default the rows of a patient.

    Raises
    ------
    TableError
        Where a bag or label is blank, a bag has several labels, or rows of several patients. Rows are named,
        bags are not.
    """
    values = part.samples.patients if bag is None else part.labels(bag)
    labels = part.labels(label)
    bags: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        bags.setdefault(value, []).append(place)
    mistakes = []
    for places in bags.values():
        rows = name_rows([part.samples.rows[place] for place in places])
        several = sorted({labels[place] for place in places})
        if len(several) > 1:
            got = ", ".join(repr(each) for each in several[:3])
            mistakes.append(f"`{label}` must be the same in all rows of a bag; got {got} in {rows}.")
        if len({int(part.patients[place]) for place in places}) > 1:
            mistakes.append(
                f"`{bag}` must have rows of one patient in each bag; got several in {rows}. "
                "Name the table's column of `patient`; where patients are not known, the column of bags."
            )
    TableError.raise_any(part.subject, mistakes)
    return Bags(
        part=part,
        names=tuple(bags),
        instances=tuple(np.array(places, dtype=np.int64) for places in bags.values()),
        labels=tuple(labels[places[0]] for places in bags.values()),
    )
