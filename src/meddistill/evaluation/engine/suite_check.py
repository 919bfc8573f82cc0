"""What is wrong with a suite that only its tables can tell, all of it, before any model is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

from meddistill.data.samples import Samples
from meddistill.data.splits import check_leakage
from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows that the student learns from, with the content keys of their images.

    Or those by which one of its stages is chosen, or that are held against them; `table` names them in
    messages.
    """

    samples: Samples
    keys: Sequence[str]
    table: str = "the training table"


def check_tasks(suite: SuiteConfig, tables: SuiteTables, *training: TrainingRows) -> None:
    """Raise ConfigError with the mistakes of every task: rows, labels, splits that leak.

    With `training` rows that are tested must share neither a patient nor an image with those, unless the task
    reports that (`train_overlap`).
    """
    mistakes = []
    tested: dict[str, set[int]] = {}
    nothing_written = SampleNames(None, examples=False)
    for config in suite.tasks:
        try:
            task = build_task(config, tables.parts(config), nothing_written)
            if config.train_overlap == "refuse":
                tested.setdefault(task.tested.table, set()).update(task.tested.samples.rows)
            task.check()
            task.check_groups()
        except (ConfigError, TableError) as error:
            own = config.subject
            place = own if error.subject == own else f"{own}: {error.subject}"
            mistakes += [f"{place}: {line}" for line in error.mistakes]
    for train_rows in training:
        for table, rows in tested.items():
            part = tables.rows(table, rows)
            other = TrainingRows(samples=part.samples, keys=part.keys, table=part.subject)
            mistakes += leaks(train_rows, other)
    ConfigError.raise_any(f"suite {suite.name}", mistakes)


def leaks(training: TrainingRows, other: TrainingRows) -> tuple[str, ...]:
    """The mistakes of rows of both that share a patient or an image."""
    both = (training, other)
    samples = {each.table: each.samples for each in both}
    try:
        check_leakage(samples, image_keys={each.table: each.keys for each in both})
    except TableError as error:
        return tuple(error.mistakes)
    return ()
