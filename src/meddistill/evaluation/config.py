"""A suite: which tables are there and which tasks are judged on them; loads no torch."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from meddistill.data.config import TableConfig
from meddistill.evaluation.bags.config import BagClassificationConfig
from meddistill.evaluation.classification.config import KnnConfig, LinearProbeConfig, ZeroShotConfig
from meddistill.evaluation.retrieval.config import RetrievalConfig
from meddistill.evaluation.statistics.config import BootstrapConfig
from meddistill.evaluation.task_config import Name, Strict

AnyTaskConfig = Annotated[
    ZeroShotConfig | LinearProbeConfig | KnnConfig | RetrievalConfig | BagClassificationConfig,
    Field(discriminator="kind"),
]


class SuiteConfig(Strict):
    """The whole suite; every table that a task names must be there."""

    name: Name
    """For tables and the report."""
    tables: dict[Name, TableConfig] = Field(min_length=1)
    """Name → table; paths are relative to the suite file."""
    tasks: list[AnyTaskConfig] = Field(min_length=1)
    """What is judged, each task on the tables that it names."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """How intervals are made."""

    @model_validator(mode="after")
    def _consistent(self) -> "SuiteConfig":
        mistakes = [*self._twice(), *self._unknown_tables(), *self._without_captions()]
        if mistakes:
            raise ValueError(" ".join(mistakes))
        return self

    def _twice(self) -> Iterator[str]:
        # Predictions are stored under the name, and some file systems ignore case.
        counts = Counter(task.name.lower() for task in self.tasks)
        for name in [name for name, count in counts.items() if count > 1]:
            yield f"`tasks` must have different names; got `{name}` more than once."

    def _unknown_tables(self) -> Iterator[str]:
        for task in self.tasks:
            for role, table in task.tables().items():
                if table not in self.tables:
                    known = ", ".join(self.tables)
                    yield f"`{role}` of task `{task.name}` must be one of {known}; got `{table}`."

    def _without_captions(self) -> Iterator[str]:
        for task in self.tasks:
            if task.kind == "retrieval" and task.table in self.tables and not self.tables[task.table].text:
                yield f"`text` of table `{task.table}` must name a column for task `{task.name}`; got none."
