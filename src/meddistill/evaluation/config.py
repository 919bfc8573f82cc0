"""A suite: which tables are there and which tasks are judged on them; loads no torch."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from meddistill.data.config import TableConfig
from meddistill.data.datasets import DatasetName

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Where = dict[str, str | list[str]]
Fraction = Annotated[float, Field(gt=0, le=1)]
Regularisation = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PLACEHOLDERS: Final = ("{}", "{c}")
# Powers of ten on features of unit variance (see `tasks/linear_probe.py`).
DEFAULT_GRID: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class _TaskConfig(_Strict):
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


class ZeroShotConfig(_TaskConfig):
    """Classification by the cosine between an image and the prompts of each class."""

    kind: Literal["zero_shot"]
    """Classification by the cosine between an image and the prompts of each class."""
    table: str
    """One of the suite's tables."""
    label: str = "label"
    """Column of labels."""
    classes: dict[str, str | list[str]] = Field(min_length=2)
    """Label → a phrase that fills every template, or a list of whole prompts. A plain list of labels names
    itself.
    """
    templates: list[str] = Field(default=["{}"], min_length=1)
    """Texts with one placeholder each, `{}` or `{c}`; their embeddings are averaged."""

    @field_validator("classes", mode="before")
    @classmethod
    def _list_names_itself(cls, value: object) -> object:
        return {str(each): str(each) for each in value} if isinstance(value, list) else value

    @field_validator("templates")
    @classmethod
    def _one_placeholder(cls, value: list[str]) -> list[str]:
        for template in value:
            if sum(template.count(mark) for mark in PLACEHOLDERS) != 1:
                msg = f"`templates` must each have one `{{}}` or `{{c}}`; got {template!r}."
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _no_blank_prompt(self) -> "ZeroShotConfig":
        for label, prompts in self.prompts().items():
            if not prompts or not all(prompt.strip() for prompt in prompts):
                msg = f"`classes.{label}` must give prompts that are not blank; got {self.classes[label]!r}."
                raise ValueError(msg)
        return self

    def prompts(self) -> dict[str, tuple[str, ...]]:
        """Label → its prompts, in the order of `classes`."""
        return {label: tuple(self._filled(entry)) for label, entry in self.classes.items()}

    def prompts_sha256(self) -> str:
        """Hash of labels and prompts: the choice of templates is part of the benchmark."""
        return hashlib.sha256(json.dumps(self.prompts(), ensure_ascii=False).encode()).hexdigest()

    def _filled(self, entry: str | list[str]) -> Iterator[str]:
        if isinstance(entry, list):
            yield from entry
            return
        for template in self.templates:
            mark = next(each for each in PLACEHOLDERS if each in template)
            yield template.replace(mark, entry)


class LinearProbeConfig(_TaskConfig):
    """Logistic regression on frozen image embeddings.

    Each of `fractions` of the training patients is drawn with each of `seeds` seeds; the whole needs no draw.
    """

    kind: Literal["linear_probe"]
    """Logistic regression on frozen image embeddings."""
    train: str
    """The table to fit on."""
    validation: str | None = None
    """The table that chooses C by balanced accuracy; without one it is `default_c`."""
    test: str
    """The table that is judged."""
    label: str = "label"
    """Column of labels."""
    grid: list[Regularisation] = Field(default=list(DEFAULT_GRID), min_length=1)
    """Values of C to choose from."""
    default_c: Regularisation = 0.316  # the value that CLIP's own README uses
    """C without a validation table; the value of CLIP's own README."""
    fractions: list[Fraction] = Field(default=[1.0], min_length=1)
    """Shares of the training patients to fit on."""
    seeds: int = Field(default=5, ge=1, le=100)
    """Draws of each share below 1."""
    max_iterations: int = Field(default=1000, ge=1)
    """Of the solver."""

    @field_validator("fractions")
    @classmethod
    def _distinct(cls, value: list[float]) -> list[float]:
        if len(set(value)) != len(value):
            msg = f"`fractions` must differ from one another; got {value}."
            raise ValueError(msg)
        return sorted(value, reverse=True)


class KnnConfig(_TaskConfig):
    """Classification by the `k` most similar training images (cosine)."""

    kind: Literal["knn"]
    """Classification by the most similar training images (cosine)."""
    train: str
    """The table of neighbours."""
    test: str
    """The table that is judged."""
    label: str = "label"
    """Column of labels."""
    k: int = Field(default=20, ge=1)
    """Neighbours that vote."""


class RetrievalConfig(_TaskConfig):
    """Image to text and text to image, among the distinct images and captions of a table."""

    kind: Literal["retrieval"]
    """Image to text and text to image, among the distinct images and captions of a table."""
    table: str
    """One of the suite's tables; it needs `text`."""


TaskConfig = Annotated[
    ZeroShotConfig | LinearProbeConfig | KnnConfig | RetrievalConfig, Field(discriminator="kind")
]


class BootstrapConfig(_Strict):
    """How intervals are made: patients are drawn `resamples` times; percentiles at `level`."""

    resamples: int = Field(default=1000, ge=20, le=100_000)
    """Times that patients are drawn with replacement."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Of the draws."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Of the percentile interval."""


class SuiteConfig(_Strict):
    """The whole suite; every table that a task names must be there."""

    name: Name
    """For tables and the report."""
    tables: dict[Name, TableConfig] = Field(min_length=1)
    """Name → table; paths are relative to the suite file."""
    tasks: list[TaskConfig] = Field(min_length=1)
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
            for role, table in tables_of(task).items():
                if table not in self.tables:
                    known = ", ".join(self.tables)
                    yield f"`{role}` of task `{task.name}` must be one of {known}; got `{table}`."

    def _without_captions(self) -> Iterator[str]:
        for task in self.tasks:
            if task.kind == "retrieval" and task.table in self.tables and not self.tables[task.table].text:
                yield f"`text` of table `{task.table}` must name a column for task `{task.name}`; got none."


def tables_of(task: TaskConfig) -> Mapping[str, str]:
    """Role → table of one task; the role is the name of the config's field."""
    if isinstance(task, ZeroShotConfig | RetrievalConfig):
        return {"table": task.table}
    roles = {"train": task.train, "test": task.test}
    if isinstance(task, LinearProbeConfig) and task.validation is not None:
        roles["validation"] = task.validation
    return roles


def columns_of(task: TaskConfig) -> frozenset[str]:
    """Columns that a task reads from its tables, besides those that the table's config names."""
    label = () if isinstance(task, RetrievalConfig) else (task.label,)
    return frozenset((*label, *task.where))
