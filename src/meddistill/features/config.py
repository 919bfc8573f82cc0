"""How features are extracted, in a recipe's words; loads no torch."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from meddistill.imaging import ViewPolicy
from meddistill.strict import StrictSettings

StoredPrecision = Literal["float16", "float32", "int8"]
Quantile = Annotated[float, Field(ge=0, lt=1)]


class AvailabilityConfig(StrictSettings):
    """Which teachers are available for a row: those that every rule here, and their `modalities`, let in.

    MMKD-CLIP's data keep 6.6 of nine teachers a pair, by a rule that was not published. `agreement_quantile`
    is a reconstruction of it: teachers' cosines lie on different scales, so each is measured by its own.
    """

    column: str | None = Field(default=None, min_length=1)
    """Column of the training table with the ids of each row's teachers, separated by `|` or `;` (in Parquet
    also a list); blank: none of them.
    """
    unknown_names: Literal["refuse", "ignore"] = "refuse"
    """What becomes of names in `column` that are no teacher of the recipe."""
    agreement_quantile: Quantile | Mapping[str, Quantile] | None = None
    """A pair is left to a teacher when the cosine of its image and text embeddings is at least the teacher's
    own quantile over the training table's pairs that it covers: 0.27 takes from each teacher the 27 % that it
    agrees with least. A number for every teacher with both embeddings, or teacher → number.
    """
    min_teachers: int = Field(default=0, ge=0)
    """The stages that distil leave out rows with fewer teachers; 0 keeps all."""

    @property
    def restricts(self) -> bool:
        """Whether there is a rule besides the teachers' modalities."""
        return bool(self.column or self.agreement_quantile is not None or self.min_teachers)


class ExtractOptions(StrictSettings):
    """How a feature store is made."""

    precision: StoredPrecision = "float16"
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
