"""Config of the task that outlines a structure; loads no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from meddistill.evaluation.base.task_config import TaskConfig, distinct

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Label = Annotated[int, Field(ge=1, le=255)]
Decoder = Literal["linear", "light"]
Empty = Literal["score", "skip"]
Unit = Literal["px", "mm"]


class SegmentationProbeConfig(TaskConfig):
    """Outlining one structure by a small decoder on frozen patch tokens."""

    kind: Literal["segmentation_probe"]
    """Outlining one structure by a small decoder on frozen patch tokens."""
    train: str
    """The table to fit on."""
    validation: str | None = None
    """The table that chooses the epoch by Dice; without one it is the last."""
    test: str
    """The table that is tested."""
    mask: str = Field(default="mask", min_length=1)
    """Column of label maps, each of the size of its image: PNG, TIFF or BMP of one channel, or NIfTI volumes.
    """
    foreground: list[Label] | None = Field(default=None, min_length=1)
    """Labels that form the structure together; by default all but 0, which is the background."""
    decoder: Decoder = "linear"
    """`linear`: one logistic regression at every patch, bilinear in between. `light`: small convolutions that
    go to four times the grid.
    """
    seeds: int = Field(default=3, ge=1, le=100)
    """Fits that are averaged."""
    epochs: int = Field(default=40, ge=1)
    """Passes over the training table."""
    batch_size: int = Field(default=16, ge=1)
    """Images a step."""
    learning_rate: Positive | None = None
    """Highest of the cosine schedule; by default 0.01 for `linear` and 0.002 for `light`."""
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    """Of AdamW."""
    tolerance: Positive = 2.0
    """How far outlines may lie apart in the surface Dice, in millimetres where the spacing is known, else in
    pixels; part of the metric's name.
    """
    spacing: tuple[Positive, Positive] | None = None
    """Millimetres between rows and between columns of all masks of the task."""
    spacing_column: str | None = Field(default=None, min_length=1)
    """Column of the spacing where masks differ: one number, or rows and columns joined by `|`."""
    empty: Empty = "score"
    """Images without the structure: `score` counts an empty answer as right (1, distance 0) and any other as
    wrong (0, the image's diagonal); `skip` leaves them out of these metrics. An empty answer to an image with
    the structure is wrong either way.
    """
    max_gigabytes: Positive = 8.0
    """The most memory that the patch tokens of all rows may take, 10^9 bytes in float16."""

    @model_validator(mode="after")
    def _one_spacing(self) -> "SegmentationProbeConfig":
        if self.spacing is not None and self.spacing_column is not None:
            msg = (
                f"`spacing` must be given once; got {self.spacing} and column `{self.spacing_column}`. "
                "Leave one out."
            )
            raise ValueError(msg)
        distinct(self.foreground or [], "foreground")
        return self

    @property
    def unit(self) -> Unit:
        """Of distances."""
        return "px" if self.spacing is None and self.spacing_column is None else "mm"

    def images(self) -> frozenset[str]:
        """The label maps."""
        return frozenset((self.mask,))

    def own_columns(self) -> tuple[str, ...]:
        return () if self.spacing_column is None else (self.spacing_column,)
