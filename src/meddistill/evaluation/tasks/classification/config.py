"""Configs of the tasks that give every image a class; loads no torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from meddistill.core_yaml import QUOTE, is_true
from meddistill.evaluation.base.task_config import TaskConfig, distinct
from meddistill.strict import StrictSettings

Fraction = Annotated[float, Field(gt=0, le=1)]
Regularisation = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PLACEHOLDERS: Final = ("{}", "{c}")
# Powers of ten on features of unit variance (see `linear_probe.py`).
DEFAULT_GRID: Final = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def _with_one_placeholder(template: str) -> str:
    if sum(template.count(mark) for mark in PLACEHOLDERS) != 1:
        msg = f"a template must have one `{{}}` or `{{c}}`; got {template!r}."
        raise ValueError(msg)
    return template


Templates = Annotated[list[Annotated[str, AfterValidator(_with_one_placeholder)]], Field(min_length=1)]
Target = Annotated[float, Field(gt=0, le=1)]


def _falling(value: list[float]) -> list[float]:
    return sorted(distinct(value, "fractions"), reverse=True)


def _rising(value: list[int]) -> list[int]:
    return sorted(distinct(value, "shots"))


Fractions = Annotated[list[Fraction], Field(min_length=1), AfterValidator(_falling)]
Shots = Annotated[list[Annotated[int, Field(ge=1)]], AfterValidator(_rising)]


class OperatingPoint(StrictSettings):
    """A rule that chooses the score from which on a row is called positive; one of the three."""

    sensitivity: Target | None = None
    """The highest threshold at which at least this share of the positive rows is found."""
    specificity: Target | None = None
    """The lowest threshold at which at least this share of the negative rows is left alone."""
    youden: Annotated[Literal[True], BeforeValidator(is_true)] | None = None
    """The threshold with the highest sensitivity + specificity - 1."""

    @model_validator(mode="after")
    def _one_rule(self) -> "OperatingPoint":
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            msg = f"`operating_points` must each name one of sensitivity, specificity, youden; got {got}."
            raise ValueError(msg)
        return self

    @property
    def words(self) -> str:
        """What tables call the point."""
        if self.sensitivity is not None:
            return f"sensitivity ≥ {self.sensitivity:g}"
        if self.specificity is not None:
            return f"specificity ≥ {self.specificity:g}"
        return "highest Youden index"


def points(plain: Iterable[Mapping[str, Any]]) -> tuple[OperatingPoint, ...]:
    """Operating points again from their plain values."""
    return tuple(OperatingPoint(**each) for each in plain)


def filled(template: str, phrase: str) -> str:
    """A template with a phrase at its placeholder."""
    mark = next(each for each in PLACEHOLDERS if each in template)
    return template.replace(mark, phrase)


class _ClassConfig(TaskConfig):
    """What tasks have that give every image one class, with a probability."""

    ordinal: bool = False
    """Whether the classes stand in their natural order (grades): adds quadratic kappa."""
    positive: str | None = None
    """Of two classes the one that operating points are about."""
    operating_points: list[OperatingPoint] = Field(default=[])
    """Of two classes: thresholds, chosen on `validation` (without one on the tested rows, which is
    optimistic and marked so), at which sensitivity, specificity and predictive values are given.
    """

    @model_validator(mode="after")
    def _positive_is_named(self) -> "_ClassConfig":
        if self.operating_points and self.positive is None:
            msg = "`positive` must name a class where there are `operating_points`; got none."
            raise ValueError(msg)
        return self


class ZeroShotConfig(_ClassConfig):
    """Classification by the cosine between an image and the prompts of each class."""

    kind: Literal["zero_shot"]
    """Classification by the cosine between an image and the prompts of each class."""
    table: str
    """One of the suite's tables."""
    validation: str | None = None
    """A table without the tested patients, on which temperature and thresholds are fitted."""
    label: str = "label"
    """Column of labels."""
    classes: dict[str, str | list[str]] = Field(min_length=2)
    """Label → a phrase that fills every template, or a list of whole prompts. A plain list of labels names
    itself.
    """
    templates: Templates = Field(default=["{}"])
    """Texts with one placeholder each, `{}` or `{c}`; their embeddings are averaged."""

    @field_validator("classes", mode="before")
    @classmethod
    def _list_names_itself(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        other = [each for each in value if isinstance(each, bool) or not isinstance(each, str | int | float)]
        if other:
            msg = f"`classes` must be texts; got {other[0]!r}. {QUOTE}"
            raise ValueError(msg)
        return {str(each): str(each) for each in value}

    @model_validator(mode="after")
    def _no_blank_prompt(self) -> "ZeroShotConfig":
        for label, prompts in self.prompts().items():
            if not prompts or not all(prompt.strip() for prompt in prompts):
                msg = f"`classes.{label}` must give prompts that are not blank; got {self.classes[label]!r}."
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _positive_of_two(self) -> "ZeroShotConfig":
        if self.positive is not None and (self.positive not in self.classes or len(self.classes) != 2):
            msg = f"`positive` must be one of two `classes`; got {self.positive!r} of {len(self.classes)}."
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
            yield filled(template, entry)

    def own_columns(self) -> tuple[str, ...]:
        return (self.label,)


class LinearProbeConfig(_ClassConfig):
    """Logistic regression on frozen image embeddings.

    Each of `fractions` of the training patients, and each of `shots` images a class, is drawn with each of
    `seeds` seeds; the whole needs no draw.
    """

    kind: Literal["linear_probe"]
    """Logistic regression on frozen image embeddings."""
    train: str
    """The table to fit on."""
    validation: str | None = None
    """The table that chooses C by balanced accuracy; without one it is `default_c`. Temperature and
    thresholds are fitted on it too.
    """
    test: str
    """The table that is tested."""
    label: str = "label"
    """Column of labels."""
    classes: list[str] | None = Field(default=None, min_length=2)
    """The classes in their order; without it those of the training table by the alphabet."""
    grid: list[Regularisation] = Field(default=list(DEFAULT_GRID), min_length=1)
    """Values of C to choose from."""
    default_c: Regularisation = 0.316  # the value that CLIP's own README uses
    """C without a validation table; the value of CLIP's own README."""
    fractions: Fractions = Field(default=[1.0])
    """Shares of the training patients to fit on."""
    shots: Shots = Field(default=[])
    """Images of each class to fit on, from different patients as far as they go; 1, 2, 4, 8, 16 are usual."""
    seeds: int = Field(default=5, ge=1, le=100)
    """Draws of each share below 1, and of each number of shots."""
    max_iterations: int = Field(default=1000, ge=1)
    """Of the solver."""

    @model_validator(mode="after")
    def _ordered(self) -> "LinearProbeConfig":
        _check_order(self.classes, ordinal=self.ordinal)
        return self

    def own_columns(self) -> tuple[str, ...]:
        return (self.label,)


class KnnConfig(TaskConfig):
    """Classification by the `k` most similar training images (cosine)."""

    kind: Literal["knn"]
    """Classification by the most similar training images (cosine)."""
    train: str
    """The table of neighbours."""
    test: str
    """The table that is tested."""
    label: str = "label"
    """Column of labels."""
    classes: list[str] | None = Field(default=None, min_length=2)
    """The classes in their order; without it those of the training table by the alphabet."""
    ordinal: bool = False
    """Whether the classes stand in their natural order (grades): adds quadratic kappa."""
    k: int = Field(default=20, ge=1)
    """Neighbours that vote."""

    @model_validator(mode="after")
    def _ordered(self) -> "KnnConfig":
        _check_order(self.classes, ordinal=self.ordinal)
        return self

    def own_columns(self) -> tuple[str, ...]:
        return (self.label,)


def _check_order(classes: list[str] | None, *, ordinal: bool) -> None:
    if ordinal and classes is None:
        msg = "`classes` must give the order of an `ordinal` task; got none."
        raise ValueError(msg)
    distinct(classes or [], "classes")
