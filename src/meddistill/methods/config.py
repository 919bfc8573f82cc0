"""What a recipe may say of a method. Loads no torch."""

from collections.abc import Mapping, Set
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from meddistill.balancing.config import (
    AvailableConfig,
    SelectionConfig,
    UniformConfig,
    WeightingConfig,
)
from meddistill.objectives.config import (
    ContrastiveOptions,
    EmbeddingObjectives,
    FeatureMSEOptions,
    InteractiveContrastiveOptions,
    StudentObjectives,
    Tower,
)


class ContrastiveConfig(BaseModel):
    """The student alone, on pairs of image and caption."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["contrastive"]
    """The student alone."""
    objectives: StudentObjectives = StudentObjectives()
    """Objective → weight, or its options."""
    views: Literal["fresh"] = "fresh"
    """Another view of every image in every epoch."""


class EmbeddingConfig(BaseModel):
    """The student against its teachers' embeddings; the default objectives are MMKD-CLIP's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["embedding"]
    """The student against its teachers' embeddings."""
    objectives: EmbeddingObjectives = EmbeddingObjectives(
        contrastive=ContrastiveOptions(),
        feature_mse=FeatureMSEOptions(weight=50.0),
        interactive_contrastive=InteractiveContrastiveOptions(),
    )
    """Objective → weight, or its options."""
    selection: SelectionConfig = AvailableConfig()
    """Which teachers count for a row."""
    weighting: WeightingConfig = UniformConfig()
    """How much each of them counts."""
    views: Literal["fixed", "consistent"] = "fixed"
    """`fixed`: the student's view is fresh, the teachers' is the whole image (view 0), as in MMKD-CLIP.
    `consistent`: both see the same view, one of those that the store holds.
    """

    @field_validator("objectives")
    @classmethod
    def _one_needs_a_teacher(cls, value: EmbeddingObjectives) -> EmbeddingObjectives:
        if not any(options.requires for options in value.chosen().values()):
            msg = "must name an objective that looks at the teachers, for example feature_mse"
            raise ValueError(msg)
        return value


MethodConfig = Annotated[ContrastiveConfig | EmbeddingConfig, Field(discriminator="method")]


def missing_towers(
    config: ContrastiveConfig | EmbeddingConfig, towers: Mapping[str, Set[Tower]]
) -> list[str]:
    """One line for each objective that needs a tower which a teacher (by name) does not have."""
    return [
        f"teacher `{teacher}` must have {_and(options.requires)} embeddings for the objective {objective}; "
        f"got {_and(present) or 'none'}. Leave the teacher or the objective out."
        for teacher, present in towers.items()
        for objective, options in config.objectives.chosen().items()
        if not options.requires <= present
    ]


def _and(names: Set[str]) -> str:
    return " and ".join(sorted(names))
