"""Config of the task that gives every bag of images a class; loads no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from meddistill.evaluation.base.task_config import Name, TaskConfig

Pooling = Literal["attention", "mean", "max"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BagClassificationConfig(TaskConfig):
    """One label for a bag of images: a patient's slices, the tiles of a slide.

    The embeddings of a bag's images are pooled into one vector, on which a linear classifier is learnt.
    """

    kind: Literal["bag_classification"]
    """One label for a bag of images (a patient's slices, the tiles of a slide), learnt on frozen embeddings
    by gated attention.
    """
    train: str
    """The table to learn from, a row an image."""
    validation: str | None = None
    """The table that chooses the epoch, or C, by balanced accuracy; without one the last epoch and `c`
    stand.
    """
    test: str
    """The table that is tested."""
    bag: str | None = None
    """Column of bags: all rows with one value are a bag, and belong to one patient. By default a patient's
    rows are a bag.
    """
    place: tuple[str, str] | None = None
    """Two columns of numbers, of x and of y: where in the bag an image lies, for the map of attention in the
    report. Of tiles that `meddistill slides tile` wrote: `[x, y]`. Stored features bring their own `coords`.
    """
    label: str = "label"
    """Column of labels; all rows of a bag have the same one."""
    classes: list[str] = Field(default=[])
    """The classes, of an `ordinal` task from the lowest to the highest; by default those of the training
    table.
    """
    ordinal: bool = False
    """Whether the classes are grades. Quadratic kappa is then counted too."""
    pooling: tuple[Pooling, ...] = Field(default=("attention", "mean"), min_length=1)
    """How a bag becomes a vector: `attention` learns which images count; `mean` and `max` over the images
    are followed by logistic regression. Of several the first is the task's main setting.
    """
    epochs: int = Field(default=20, ge=1)
    """Of `attention`: passes over the training bags, one bag a step; the learning rate falls by a cosine."""
    learning_rate: Positive = 3e-4
    """Of `attention`, with AdamW."""
    weight_decay: AtLeastZero = 1e-5
    """Of `attention`."""
    hidden: int = Field(default=128, ge=1)
    """Width of the attention's hidden layer."""
    dropout: float = Field(default=0.25, ge=0, lt=1)
    """Share of the attention's hidden units that are left out in a step."""
    max_instances: int = Field(default=2048, ge=1)
    """Images of a bag in one step of `attention`; of a larger bag so many are drawn anew in every epoch.
    Bags are tested whole.
    """
    balanced: bool = True
    """Whether rare classes weigh more, so that every class has the same total weight in the loss."""
    c: Positive = 0.5
    """Inverse regularisation of the logistic regression after `mean` and `max`, without a validation table.
    """
    seeds: int = Field(default=3, ge=1, le=100)
    """Fits of `attention`; metrics are averaged over them."""
    stored: dict[Name, Path] = Field(default={})
    """Name → a folder of stored features, one `.h5` file a bag, named by the bag, with `features`
    [instances, width] as CLAM and TRIDENT write it. Compared with the models on the same bags, under the
    name. Relative to the suite file.
    """

    @field_validator("pooling", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "BagClassificationConfig":
        if len(set(self.pooling)) != len(self.pooling):
            msg = f"`pooling` must name each way once; got {', '.join(self.pooling)}."
            raise ValueError(msg)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            msg = f"`classes` must be two different ones at least; got {', '.join(self.classes)}."
            raise ValueError(msg)
        if self.place is not None and len(set(self.place)) == 1:
            msg = f"`place` must name two columns, of x and of y; got {self.place[0]} twice."
            raise ValueError(msg)
        if self.ordinal and not self.classes:
            msg = "`classes` must list the grades from the lowest to the highest where `ordinal` is true."
            raise ValueError(msg)
        return self

    def own_columns(self) -> tuple[str, ...]:
        bag = () if self.bag is None else (self.bag,)
        return (self.label, *bag, *(self.place or ()))
