"""Config of retrieval; loads no torch."""

from typing import Literal

from pydantic import Field

from meddistill.evaluation.base.task_config import TaskConfig
from meddistill.strict import StrictSettings


class PairsConfig(StrictSettings):
    """How many distinct pairs of image and caption are drawn, by hash: the table's order means nothing."""

    n: int = Field(default=2000, ge=2)
    """Pairs; all of them where a table has no more."""
    seed: int = Field(default=42, ge=0)
    """Of the draw."""


class RetrievalConfig(TaskConfig):
    """Image to text and text to image, among the distinct images and captions of a table."""

    kind: Literal["retrieval"]
    """Image to text and text to image, among the distinct images and captions of a table."""
    table: str
    """One of the suite's tables; it needs `text`."""
    pairs: PairsConfig | None = None
    """A gallery of `n` pairs drawn from the table instead of the whole of it, for comparison with numbers
    that others report of so many: recall at k falls as the gallery grows.
    """
