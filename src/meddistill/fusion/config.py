"""What a recipe may say of a fusion network. Loads no torch."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from meddistill.methods.config import EmbeddingConfig
from meddistill.objectives.config import ContrastiveOptions, CosineSmoothL1Options, EmbeddingObjectives

Inputs = Literal["within", "across"]
NetworkKind = Literal["gated_mlp", "cross_attention"]


class FusionConfig(EmbeddingConfig):
    """A network over the teachers' stored embeddings, whose outputs become one more teacher.

    It is trained to give back each teacher's embeddings through learned heads, and, within a modality, to
    bring an image and its caption together. No image is decoded, and the student stays as it is.
    """

    method: Literal["fusion"]
    """A network over the teachers' stored embeddings, whose outputs become one more teacher."""
    inputs: Inputs = "within"
    """`within`: an image's embeddings become one, and so do a text's; a row an image and a row a text.
    `across`: an image sees its own caption too, and the caption its image; a row a pair. Such a teacher knows
    what belongs together, so that it is a target for features alone, and no similarities are taken from it.
    """
    network: NetworkKind = "gated_mlp"
    """`gated_mlp`: a sum of the teachers, weighted for each row by a gate that sees them all.
    `cross_attention`: the teachers as tokens that attend to one another.
    """
    dim: PositiveInt = 256
    """Of the derived teacher's embeddings."""
    hidden: PositiveInt = 512
    """Width of the network's hidden layers."""
    patience: PositiveInt | None = None
    """The stage ends after so many epochs without a better retrieval of the rows of `data.validation`; null
    goes through all epochs. With `data.validation` the best epoch's weights are kept in either case. Not with
    `across`, which knows what belongs together.
    """
    teachers: tuple[str, ...] | None = Field(default=None, min_length=2)
    """Ids of the teachers to fuse; by default those of the recipe."""
    objectives: EmbeddingObjectives = EmbeddingObjectives(
        contrastive=ContrastiveOptions(), cosine_smooth_l1=CosineSmoothL1Options(weight=20.0)
    )
    """Objective → weight, or its options; with `across` the default is `cosine_smooth_l1` alone."""
    views: Literal["fixed"] = "fixed"
    """The network learns from view 0; the derived teacher has all views that the store holds."""

    @model_validator(mode="before")
    @classmethod
    def _only_features_across(cls, values: Any) -> Any:
        across = isinstance(values, Mapping) and values.get("inputs") == "across"
        if not across or "objectives" in values:
            return values
        return {**values, "objectives": {"cosine_smooth_l1": 20.0}}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        blind = [name for name, options in self.chosen.items() if options.passes]
        if blind:
            msg = f"`objectives` must need no images in a fusion stage, which decodes none; got {blind[0]}"
            raise ValueError(msg)
        if self.by_pair:
            if self.patience is not None:
                msg = (
                    "`patience` must be absent with `inputs: across`, which knows what belongs together and "
                    f"retrieves everything; got {self.patience}"
                )
                raise ValueError(msg)
            compared = [name for name, options in self.chosen.items() if options.compares_rows]
            if compared:
                msg = (
                    "`objectives` must not compare rows with one another with `inputs: across`, which knows "
                    f"what belongs together; got {', '.join(compared)}. Leave it out"
                )
                raise ValueError(msg)
        return self

    @property
    def trains_student(self) -> bool:
        """Never: a network of its own."""
        return False

    @property
    def derived_dim(self) -> int:
        """`dim`."""
        return self.dim

    @property
    def stops_after(self) -> int | None:
        """`patience`."""
        return self.patience

    @property
    def compared_rows(self) -> tuple[str, ...]:
        """The objectives and the weighting; else the fusion itself, which takes no sources by pair."""
        return super().compared_rows or ("another fusion",)

    @property
    def by_pair(self) -> bool:
        """Whether the derived teacher has a row a pair."""
        return self.inputs == "across"

    @property
    def only_captioned(self) -> bool:
        """With `across`, whatever the objectives need."""
        return self.by_pair or super().only_captioned
