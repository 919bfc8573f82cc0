"""What the configs of all tasks have; loads no torch."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from meddistill.data.datasets import DatasetName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Where = dict[str, str | list[str]]


class Strict(BaseModel):
    """Unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class TaskConfig(Strict):
    """What all tasks have: a name, the rows that count, and whether the suite's mean counts the task."""

    name: Name
    """Names the task in tables and its folder of predictions."""
    where: Where = {}
    """Column → value(s): the rows of every table of the task that count."""
    in_mean: bool = True
    """Whether the suite's mean counts the task."""
    dataset: tuple[DatasetName, ...] = ()
    """The public data set(s) that the images come from, a name or several. Scores of models that were
    pretrained on one of them, by themselves or through a teacher, are marked in the report.
    """

    @field_validator("dataset", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def tables(self) -> Mapping[str, str]:
        """Role → table; the role is the name of the config's field."""
        raise NotImplementedError

    @property
    def allows_shared(self) -> bool:
        """Whether splits that share images or patients are judged all the same."""
        return False

    def columns(self) -> frozenset[str]:
        """Columns that the task reads from its tables, besides those that the table's config names."""
        return frozenset((*self._own_columns(), *self.where))

    def _own_columns(self) -> tuple[str, ...]:
        return ()
