"""A suite: which tables are there and which tasks are evaluated on them; loads no torch."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from meddistill.data.config import TableConfig
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.task_config import Groups, Name
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.classification.config import KnnConfig, LinearProbeConfig, ZeroShotConfig
from meddistill.evaluation.tasks.classification.multilabel_config import (
    LinearProbeMultilabelConfig,
    ZeroShotMultilabelConfig,
)
from meddistill.evaluation.tasks.retrieval.config import RetrievalConfig
from meddistill.evaluation.tasks.segmentation.config import SegmentationProbeConfig
from meddistill.evaluation.tasks.survival.config import SurvivalConfig
from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig, VqaZeroShotConfig
from meddistill.strict import StrictSettings

AnyTaskConfig = Annotated[
    ZeroShotConfig
    | LinearProbeConfig
    | KnnConfig
    | ZeroShotMultilabelConfig
    | LinearProbeMultilabelConfig
    | RetrievalConfig
    | BagClassificationConfig
    | SurvivalConfig
    | SegmentationProbeConfig
    | VqaClosedSetConfig
    | VqaZeroShotConfig,
    Field(discriminator="kind"),
]


class SuiteConfig(StrictSettings):
    """The whole suite; every table that a task names must be there."""

    name: Name
    """For tables and the report."""
    tables: dict[Name, TableConfig] = Field(min_length=1)
    """Name → table; paths are relative to the suite file."""
    tasks: list[AnyTaskConfig] = Field(min_length=1)
    """What is evaluated, each task on the tables that it names."""
    bootstrap: BootstrapConfig = BootstrapConfig()
    """How intervals are made."""
    groups: Groups = Field(default={})
    """`groups` of every task that has none of its own; `groups: {}` of a task keeps it out."""
    min_group_size: int = Field(default=20, ge=1)
    """Patients that a group must have to be scored; smaller ones are counted and hidden."""

    @model_validator(mode="before")
    @classmethod
    def _groups_of_all(cls, content: Any) -> Any:
        # A task then knows its groups without the suite.
        if not isinstance(content, dict) or not content.get("groups"):
            return content
        if not isinstance(content.get("tasks"), list):
            return content
        tasks = [
            {**task, "groups": content["groups"]}
            if isinstance(task, dict) and task.get("groups") is None
            else task
            for task in content["tasks"]
        ]
        return {**content, "tasks": tasks}

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
