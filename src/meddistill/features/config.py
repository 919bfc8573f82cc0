"""How features are extracted, in a recipe's words; loads no torch."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meddistill.imaging import ViewPolicy

Precision = Literal["float16", "float32", "int8"]


class ExtractOptions(BaseModel):
    """How a feature store is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Precision = "float16"
    """Of the stored numbers; int8 has one float32 scale a row (and view)."""
    views: int = Field(default=1, ge=1, le=256)
    """Views stored of each image; view 0 is the whole image."""
    view_policy: ViewPolicy = ViewPolicy()
    """How views 1, 2, … are made; also those of the student in training."""
    tokens: bool = False
    """Also store the patch tokens of the teachers that have them; a ViT-B/16 at 224 px takes 300 kB an image
    in float16.
    """
    shard_rows: int = Field(default=4096, gt=0)
    """Rows of one file, a multiple of `batch_size`; what a crash can cost is one shard."""
    batch_size: int = Field(default=64, gt=0)
    """Rows that a teacher sees at once."""
    workers: int = Field(default=0, ge=0)
    """Processes that decode; 0 decodes in the main one."""

    @model_validator(mode="after")
    def _batches_fill_shards(self) -> Self:
        if self.shard_rows % self.batch_size:
            msg = (
                f"`shard_rows` must be a multiple of `batch_size`; got {self.shard_rows} and "
                f"{self.batch_size}. Batches then end with shards and a resumed run gives the same bits."
            )
            raise ValueError(msg)
        return self
