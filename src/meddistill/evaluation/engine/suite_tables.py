"""The tables of a suite, read once, and the rows of them that a task sees."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from meddistill.arrays import Ints
from meddistill.data.decoded import DecodedImages
from meddistill.data.keys import image_keys
from meddistill.data.samples import Samples, row_notes
from meddistill.data.splits import check_leakage
from meddistill.data.unreadable import read_readable
from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task_config import TaskConfig, Where
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.progress import Progress


class SuiteTables:
    """All tables that the tasks of a suite name; every image in them that `decoded` does not know is decoded.

    Raises TableError with all bad rows of all tables.
    """

    def __init__(
        self,
        suite: SuiteConfig,
        *,
        base: Path,
        progress: Progress | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        columns: dict[str, set[str]] = {}
        images: dict[str, set[str]] = {}
        for task in suite.tasks:
            for table in task.tables().values():
                columns.setdefault(table, set()).update(task.columns())
                images.setdefault(table, set()).update(task.images())
            columns[task.tested_table()].update(_grouping(suite, task))
        self._tables: dict[str, EvalSplit] = {}
        numbers: dict[str, int] = {}
        read = partial(read_readable, base=base, progress=progress, decoded=decoded)
        for name, samples in _read_all(suite, columns, images, read).items():
            patients = [numbers.setdefault(patient, len(numbers)) for patient in samples.patients]
            self._tables[name] = EvalSplit(
                table=name,
                samples=samples,
                keys=tuple(image_keys(samples)),
                patients=np.array(patients, dtype=np.int64),
                base=base,
            )
        self.row_notes = tuple(
            note for part in self._tables.values() for note in row_notes(part.samples, part.subject)
        )

    def digests(self) -> dict[str, str]:
        """Table → hash of its rows, their images' content, and the columns that tasks read."""
        return {
            name: part.digest(sorted(part.samples.columns), sorted(part.samples.images))
            for name, part in self._tables.items()
        }

    def parts(self, task: TaskConfig) -> dict[str, EvalSplit]:
        """Role → rows of the task's tables.

        Raises
        ------
        ConfigError
            If `where` keeps no row of a table.
        TableError
            If training, validation and test rows share patients or images, unless the task allows it.
        """
        parts = {role: self._part(table, task) for role, table in task.tables().items()}
        if len(parts) > 1 and not task.allows_shared:
            named = {f"{task.name}: {role}": part for role, part in parts.items()}
            keys = {name: part.keys for name, part in named.items()}
            check_leakage({name: part.samples for name, part in named.items()}, image_keys=keys)
        return parts

    def rows(self, table: str, numbers: Collection[int]) -> EvalSplit:
        """The rows of a table with these numbers (from 1, as in messages)."""
        chosen = np.isin(np.array(self._tables[table].samples.rows), list(numbers))
        return self._tables[table].take(np.flatnonzero(chosen))

    def _part(self, table: str, task: TaskConfig) -> EvalSplit:
        kept = _kept(self._tables[table].samples, task.where)
        if not len(kept):
            rule = f"`where` must keep rows of table `{table}`; got {dict(task.where)}, which keeps none."
            raise ConfigError(task.subject, [rule])
        return self._tables[table].take(kept)


def _grouping(suite: SuiteConfig, task: TaskConfig) -> set[str]:
    """Columns of the tested table that part its patients; the modality has its own place in samples."""
    named = suite.tables[task.tested_table()].modality
    return {name for name in task.groups or {} if name != "modality" or named is None}


def _read_all(
    suite: SuiteConfig,
    columns: Mapping[str, Collection[str]],
    images: Mapping[str, Collection[str]],
    read: Callable[..., Samples],
) -> dict[str, Samples]:
    tables, mistakes, remedy = {}, [], None
    for name in [each for each in suite.tables if each in columns]:
        try:
            tables[name] = read(
                suite.tables[name], columns=sorted(columns[name]), images=sorted(images[name])
            )
        except TableError as error:
            mistakes += [f"table {name} ({error.subject}): {line}" for line in error.mistakes]
            remedy = remedy or error.remedy
    TableError.raise_any(f"suite {suite.name}", mistakes, remedy=remedy)
    return tables


def _kept(samples: Samples, where: Where) -> Ints:
    keep = np.ones(len(samples), dtype=bool)
    for column, wanted in where.items():
        allowed = {wanted} if isinstance(wanted, str) else set(wanted)
        keep &= np.array([cell in allowed for cell in samples.columns[column]], dtype=bool)
    return np.flatnonzero(keep)
