"""The patients of a survival task, read from the rows of its table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from meddistill.arrays import Flags, Floats, Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.cells import number
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.survival.clinical import Clinical, read_clinical
from meddistill.evaluation.tasks.survival.config import SurvivalConfig

Value = TypeVar("Value")

_SEEN: Final = frozenset({"1", "1.0", "true", "yes"})
_CENSORED: Final = frozenset({"0", "0.0", "false", "no"})


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Patients in the order in which the table first has them; entry i of every array is patient i.

    `first` are positions of their first rows among the samples, `of_row` tells every row's patient.
    `sites` is None without a column of sites; `strata` number the cohorts of a stratified task in the order
    of their names, and are 0 in all others.
    """

    first: Ints
    of_row: Ints
    times: Floats
    events: Flags
    sites: tuple[str, ...] | None
    strata: Ints
    clinical: Clinical

    def __len__(self) -> int:
        return len(self.first)


def read_cohort(part: EvalSplit, config: SurvivalConfig) -> Cohort:
    """Follow-up and clinical data of every patient.

    Raises TableError, with row numbers, where an image is of several patients, a time is no number from 0, an
    event neither 0 nor 1, a site or stratum blank, or where the rows of one patient disagree.
    """
    _, first, of_row = np.unique(part.patients, return_index=True, return_inverse=True)
    order = np.argsort(first)
    first, of_row = first[order], np.argsort(order)[of_row]
    mistakes = _copies(part, of_row)
    cells = {name: part.samples.columns[name] for name in sorted(config.patient_columns())}
    for name, column in cells.items():
        differing = [
            row
            for row, cell, patient in zip(part.samples.rows, column, of_row, strict=True)
            if cell != column[first[patient]]
        ]
        if differing:
            rule = f"`{name}` must be the same in all rows of a patient"
            do = "Mend the table, or leave these rows out by `where`."
            mistakes.append(f"{rule}; it differs in {name_rows(differing)}. {do}")
    reading = _Reading(part, first, mistakes)
    times = reading.column(config.time, _time, "be a number from 0", 0.0)
    events = reading.column(config.event, _event, "be 1 (the event was seen) or 0 (censored)", default=False)
    sites = None if config.site is None else reading.column(config.site, _filled, "not be blank", "")
    strata = None if config.strata is None else reading.column(config.strata, _filled, "not be blank", "")
    TableError.raise_any(part.subject, mistakes)
    return Cohort(
        first=first,
        of_row=of_row,
        times=np.array(times, dtype=np.float64),
        events=np.array(events, dtype=bool),
        sites=None if sites is None else tuple(sites),
        strata=_numbered(strata, len(first)),
        clinical=read_clinical(
            {name: [cells[name][row] for row in first] for name in config.clinical}, len(first)
        ),
    )


def _copies(part: EvalSplit, of_row: Ints) -> list[str]:
    """Folds are of patients: an image under two of them would be learnt from and tested."""
    owners: dict[str, set[int]] = {}
    for key, patient in zip(part.keys, of_row.tolist(), strict=True):
        owners.setdefault(key, set()).add(patient)
    shared = {key for key, each in owners.items() if len(each) > 1}
    if not shared:
        return []
    rows = name_rows([row for row, key in zip(part.samples.rows, part.keys, strict=True) if key in shared])
    several = f"{len(shared)} image{'s are' if len(shared) > 1 else ' is'} of several ({rows})"
    return [f"patients must not share images; {several}. Give copies one patient, or leave them out."]


@dataclass(frozen=True)
class _Reading:
    part: EvalSplit
    first: Ints
    mistakes: list[str]

    def column(
        self, name: str, read: Callable[[str], Value | None], rule: str, default: Value
    ) -> Sequence[Value]:
        """One value a patient; a cell that cannot be read becomes a mistake and the default."""
        samples = self.part.samples
        cells = [samples.columns[name][row] for row in self.first]
        values = [read(cell) for cell in cells]
        wrong: list[int] = []
        blank: list[int] = []
        for row, cell, value in zip(self.first, cells, values, strict=True):
            if value is None:
                (wrong if cell.strip() else blank).append(samples.rows[row])
        if wrong:
            got = f"it is something else in {name_rows(wrong)}"
            self.mistakes.append(f"`{name}` must {rule}; {got}. Mend these cells, or leave out the rows.")
        if blank:
            do = "Fill them, or leave out the rows; a column of a table of patients lacks these patients."
            self.mistakes.append(f"`{name}` must {rule}; it is blank in {name_rows(blank)}. {do}")
        return [default if value is None else value for value in values]


def _time(cell: str) -> float | None:
    value = number(cell)
    return value if math.isfinite(value) and value >= 0 else None


def _event(cell: str) -> bool | None:
    lower = cell.strip().lower()
    return True if lower in _SEEN else False if lower in _CENSORED else None


def _filled(cell: str) -> str | None:
    return cell.strip() or None


def _numbered(strata: Sequence[str] | None, count: int) -> Ints:
    if strata is None:
        return np.zeros(count, dtype=np.int64)
    return np.unique(np.array(strata, dtype=object), return_inverse=True)[1].astype(np.int64)
