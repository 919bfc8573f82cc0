"""What a recipe may say of a method. Loads no torch."""

from collections.abc import Mapping, Set
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from meddistill.balancing.config import (
    AvailableConfig,
    BatchDrawConfig,
    RandomDrawConfig,
    SelectionConfig,
    UniformConfig,
    WeightingConfig,
)
from meddistill.features.projections.config import LearnedHeadConfig, ProjectionConfig
from meddistill.objectives.config import (
    ContrastiveOptions,
    CosineSmoothL1Options,
    EmbeddingObjectives,
    ObjectiveOptions,
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
    """The student against its teachers' embeddings; the default objectives need no more than images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["embedding"]
    """The student against its teachers' embeddings."""
    objectives: EmbeddingObjectives = EmbeddingObjectives(
        contrastive=ContrastiveOptions(), cosine_smooth_l1=CosineSmoothL1Options(weight=20.0)
    )
    """Objective → weight, or its options."""
    selection: SelectionConfig = AvailableConfig()
    """Which teachers count for a row."""
    weighting: WeightingConfig = UniformConfig()
    """How much each of them counts."""
    projection: ProjectionConfig = LearnedHeadConfig()
    """The space in which the student is compared with each teacher; one map for images and texts. With
    `joint_pca` the teachers of a row are one, their ensemble.
    Objectives that compare similarities within the student with those within a teacher look at both in their
    own spaces.
    """
    rescale: Literal["equal_gradient", "none"] = "equal_gradient"
    """`equal_gradient`: with a projection other than `learned_head`, the weights of `feature_mse`,
    `cosine_smooth_l1`, `masked_feature_distillation` and `gradient_distillation` are scaled, once, such that
    their gradients at the student's embeddings of the first batch are as long as through fresh learned heads;
    50 means something else in every space. `none`: weights as given, as published.
    """
    views: Literal["fixed", "consistent"] = "fixed"
    """`fixed`: the student's view is fresh, the teachers' is the whole image (view 0), as in MMKD-CLIP.
    `consistent`: both see the same view, one of those that the store holds.
    """

    @property
    def draws_one(self) -> bool:
        """Whether at most one teacher counts for a row."""
        return isinstance(self.selection, RandomDrawConfig | BatchDrawConfig)

    @property
    def needs_statistics(self) -> bool:
        """Whether `cosine_smooth_l1` is told to compare what takes the teachers' means and covariances."""
        options = self.objectives.cosine_smooth_l1
        return options is not None and options.features in {"standardized", "whitened"}

    @property
    def uses_statistics(self) -> bool:
        """Whether it compares that where there are statistics: told to, or by default."""
        options = self.objectives.cosine_smooth_l1
        own_spaces = self.projection.kind == "learned_head"
        return self.needs_statistics or (options is not None and options.features is None and own_spaces)

    def chosen_objectives(self, *, statistics: bool) -> dict[str, ObjectiveOptions]:
        """The objectives that the recipe names, with what they leave open filled in.

        `statistics`: whether the teachers come with their means and covariances.
        """
        chosen = self.objectives.chosen()
        options = chosen.get("cosine_smooth_l1")
        if isinstance(options, CosineSmoothL1Options) and options.features is None:
            features = "whitened" if statistics and self.uses_statistics else "normalized"
            chosen["cosine_smooth_l1"] = options.model_copy(update={"features": features})
        return chosen

    @field_validator("objectives")
    @classmethod
    def _one_needs_a_teacher(cls, value: EmbeddingObjectives) -> EmbeddingObjectives:
        if not any(options.requires for options in value.chosen().values()):
            msg = "must name an objective that looks at the teachers, for example feature_mse"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_ensemble(self) -> Self:
        if self.projection.kind == "joint_pca":
            if self.weighting.kind != "uniform":
                msg = (
                    "`weighting` must be uniform with the projection joint_pca, to which all teachers are "
                    f"one; got {self.weighting.kind}"
                )
                raise ValueError(msg)
            if self.selection.kind == "teacher_dropping":
                msg = (
                    "`selection` must be available, random_draw or batch_draw with the projection joint_pca, "
                    "whose teachers have no losses of their own; got teacher_dropping"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _statistics_once(self) -> Self:
        options = self.objectives.cosine_smooth_l1
        if options is not None and self.needs_statistics and self.projection.kind != "learned_head":
            msg = (
                "`cosine_smooth_l1.features` must be normalised with a projection other than learned_head, "
                f"since statistics are of the teachers' own spaces; got {options.features} with "
                f"{self.projection.kind}. phi_s standardises by itself"
            )
            raise ValueError(msg)
        return self


def only_captioned(config: ContrastiveConfig | EmbeddingConfig) -> bool:
    """Whether rows without a caption have no part in any of a stage's objectives."""
    return len(config.objectives.need_captions) == len(config.objectives.chosen())


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
