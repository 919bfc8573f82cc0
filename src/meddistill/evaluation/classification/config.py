"""Configs of the tasks that give every image a class; loads no torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from meddistill.evaluation.task_config import TaskConfig

Fraction = Annotated[float, Field(gt=0, le=1)]
Regularisation = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PLACEHOLDERS: Final = ("{}", "{c}")
# Powers of ten on features of unit variance (see `linear_probe.py`).
DEFAULT_GRID: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class ZeroShotConfig(TaskConfig):
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

    def tables(self) -> Mapping[str, str]:
        """The one table."""
        return {"table": self.table}

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

    def _own_columns(self) -> tuple[str, ...]:
        return (self.label,)


class LinearProbeConfig(TaskConfig):
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

    def tables(self) -> Mapping[str, str]:
        """Training, validation and test rows."""
        roles = {"train": self.train, "test": self.test}
        return roles if self.validation is None else {**roles, "validation": self.validation}

    def _own_columns(self) -> tuple[str, ...]:
        return (self.label,)


class KnnConfig(TaskConfig):
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

    def tables(self) -> Mapping[str, str]:
        """Training and test rows."""
        return {"train": self.train, "test": self.test}

    def _own_columns(self) -> tuple[str, ...]:
        return (self.label,)
