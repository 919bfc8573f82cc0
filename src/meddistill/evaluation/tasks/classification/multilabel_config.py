"""Configs of the tasks that evaluate several labels of every image, each by itself; loads no torch."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from meddistill.evaluation.base.task_config import TaskConfig
from meddistill.evaluation.tasks.classification.config import (
    DEFAULT_GRID,
    Fractions,
    OperatingPoint,
    Regularisation,
    Shots,
    Templates,
    filled,
)
from meddistill.strict import StrictSettings

Prompts = Annotated[list[str], Field(min_length=1)]


class _LabelsConfig(TaskConfig):
    labels: list[str] | dict[str, str] = Field(min_length=1)
    """Either the labels to evaluate, each as it stands in the column `label`; others there are left aside. Or
    label → a column of its own with 1 (present), 0 (absent), -1 (unknown) or nothing (see `blank`).
    """
    label: str = "label"
    """Where `labels` is a list: the column that holds all labels of a row; a blank cell means none."""
    separator: str = Field(default="|", min_length=1)
    """What stands between the labels of a cell."""
    blank: Literal["unknown", "absent"] = "unknown"
    """Where every label has its column: what a blank cell means. Unknown cells are masked out."""
    operating_points: list[OperatingPoint] = Field(default=[])
    """Thresholds for every label, chosen on `validation` (without one on the tested rows, which is
    optimistic and marked so), at which sensitivity, specificity and predictive values are given.
    """

    @field_validator("labels")
    @classmethod
    def _distinct(cls, value: list[str] | dict[str, str]) -> list[str] | dict[str, str]:
        names = list(value)
        if len(set(names)) != len(names) or not all(name.strip() for name in names):
            msg = f"`labels` must differ from one another and not be blank; got {names}."
            raise ValueError(msg)
        return value

    def names(self) -> tuple[str, ...]:
        """The labels in their order."""
        return tuple(self.labels)

    def own_columns(self) -> tuple[str, ...]:
        return tuple(self.labels.values()) if isinstance(self.labels, dict) else (self.label,)


class LabelPrompts(StrictSettings):
    """Whole prompts of one label."""

    positive: Prompts
    """Texts that say that it is there."""
    negative: Prompts
    """Texts that say that it is not."""


class ZeroShotMultilabelConfig(_LabelsConfig):
    """Each label by a pair of prompts: is it there, or is it not."""

    kind: Literal["zero_shot_multilabel"]
    """Each label by a pair of prompts, as CheXzero does: is it there, or is it not."""
    table: str
    """One of the suite's tables."""
    validation: str | None = None
    """A table without the tested patients, on which thresholds are chosen."""
    prompts: dict[str, str | LabelPrompts] = Field(default={})
    """Label → a phrase that fills both kinds of templates, or whole prompts; others are their own phrase."""
    positive_templates: Templates = Field(default=["{}"])
    """Texts with one placeholder each, `{}` or `{c}`; their embeddings are averaged."""
    negative_templates: Templates = Field(default=["no {}"])
    """The same for the absence of a label."""
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """What cosines are divided by; it moves the mean over several models, never the AUC of one."""

    @model_validator(mode="after")
    def _prompts_fit(self) -> "ZeroShotMultilabelConfig":
        unknown = sorted(set(self.prompts) - set(self.labels))
        if unknown:
            msg = f"`prompts` must be of `labels`; got {', '.join(unknown)}."
            raise ValueError(msg)
        for label, (present, absent) in self.pairs().items():
            if not all(prompt.strip() for prompt in (*present, *absent)):
                msg = f"`prompts.{label}` must give prompts that are not blank."
                raise ValueError(msg)
        return self

    def pairs(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Label → prompts of its presence and of its absence."""
        prompts = {}
        for label in self.labels:
            own = self.prompts.get(label, label)
            if isinstance(own, LabelPrompts):
                prompts[label] = (tuple(own.positive), tuple(own.negative))
            else:
                sides = (self.positive_templates, self.negative_templates)
                present, absent = (tuple(filled(each, own) for each in side) for side in sides)
                prompts[label] = (present, absent)
        return prompts

    def prompts_sha256(self) -> str:
        """Hash of labels and prompts: the choice of templates is part of the benchmark."""
        return hashlib.sha256(json.dumps(self.pairs(), ensure_ascii=False).encode()).hexdigest()


class LinearProbeMultilabelConfig(_LabelsConfig):
    """One logistic regression for each label on frozen image embeddings.

    Each of `fractions` of the training patients, and each of `shots` images a label, is drawn with each of
    `seeds` seeds; the whole needs no draw.
    """

    kind: Literal["linear_probe_multilabel"]
    """One logistic regression for each label on frozen image embeddings."""
    train: str
    """The table to fit on."""
    validation: str | None = None
    """The table that chooses C, one for all labels, by macro AUC; without one it is `default_c`. Thresholds
    and temperatures are fitted on it too.
    """
    test: str
    """The table that is tested."""
    grid: list[Regularisation] = Field(default=list(DEFAULT_GRID), min_length=1)
    """Values of C to choose from."""
    default_c: Regularisation = 0.316
    """C without a validation table; the value of CLIP's own README."""
    fractions: Fractions = Field(default=[1.0])
    """Shares of the training patients to fit on; every label keeps a patient in each."""
    shots: Shots = Field(default=[])
    """Positive images of each label to fit on, and as many with none of the labels, from different patients
    as far as they go. An image counts for all its labels: each has so many positive images at least.
    """
    seeds: int = Field(default=5, ge=1, le=100)
    """Draws of each share below 1, and of each number of shots."""
    max_iterations: int = Field(default=1000, ge=1)
    """Of the solver."""
