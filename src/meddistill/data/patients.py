"""Columns of a table of patients, as if every row of the image table had them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from meddistill.data.config import PatientTable
from meddistill.data.paths import shown
from meddistill.data.raw_table import RawTable, read_raw
from meddistill.data.samples import name_rows
from meddistill.errors import TableError


def with_patients(
    raw: RawTable, config: PatientTable, *, base: Path, patient: str, wanted: Sequence[str]
) -> RawTable:
    """The image table with the `wanted` columns that it lacks and the table of patients has.

    Rows are joined where column `patient` of the image table has the value of `config.patient`; rows of
    patients that the other table does not hold get blanks. A column that both tables have is the image
    table's. Raises TableError where the patients' column is absent, or a patient is blank or stands twice.
    """
    path = base / config.table
    table = read_raw(path, [config.patient, *wanted])
    if config.patient not in table.names:
        has = ", ".join(f"`{shown(name)[1:-1]}`" for name in table.names)
        rule = f"`patients.patient` must name a column; got `{config.patient}`, the table has {has}."
        raise TableError(str(path), [rule])
    if patient not in raw.columns:
        return raw  # the image table's own check says so
    places = _places(path, table, config.patient)
    matched = [places.get(cell.strip()) for cell in raw.columns[patient]]
    more = {
        name: [table.columns[name][place] if place is not None else "" for place in matched]
        for name in wanted
        if name in table.columns and name not in raw.names
    }
    names = tuple(name for name in table.names if name not in raw.names)
    return replace(raw, names=(*raw.names, *names), columns={**raw.columns, **more})


def _places(path: Path, table: RawTable, column: str) -> Mapping[str, int]:
    """Patient → index of the row. Raises TableError naming rows, and no patient."""
    mistakes = [f"row {index + 1}: the row {reason}" for index, reason in sorted(table.broken.items())]
    places: dict[str, int] = {}
    twice, blank = [], []
    for index, cell in enumerate(table.columns[column]):
        name = cell.strip()
        if index in table.broken:
            continue
        if not name:
            blank.append(index + 1)
        elif places.setdefault(name, index) != index:
            twice.append(index + 1)
    if blank:
        mistakes.append(f"`{column}` must name a patient; it is blank in {name_rows(blank)}.")
    if twice:
        rule = f"`{column}` must name every patient once; one stands again in {name_rows(twice)}"
        mistakes.append(f"{rule}. Keep one row for each.")
    if mistakes:
        raise TableError(str(path), mistakes)
    return places
