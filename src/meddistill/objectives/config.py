"""What a recipe may say of each objective. Loads no torch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from meddistill.core_yaml import is_true

Tower = Literal["image", "text"]
_BOTH: frozenset[Tower] = frozenset({"image", "text"})
_IMAGE: frozenset[Tower] = frozenset({"image"})
PUBLISHED_GRADIENT_WEIGHT = 1e8


class ObjectiveOptions(BaseModel):
    """Base of all options.

    `requires` names the towers that a teacher must have for this objective. A tower that a teacher has
    beyond those is used too. `needs_captions`: rows without a caption have no part in it. `of_method` names
    the keys that are for the method and not for the objective.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    requires: ClassVar[frozenset[Tower]]
    needs_captions: ClassVar[bool] = True
    of_method: ClassVar[frozenset[str]] = frozenset()

    weight: PositiveFloat = 1.0
    """The factor before the objective in the sum."""


class ContrastiveOptions(ObjectiveOptions):
    """CLIP's loss, image against caption; the formula stands in `objectives/contrastive.py`."""

    requires: ClassVar[frozenset[Tower]] = frozenset()

    as_published: bool = False
    """The bare diagonal as targets. Otherwise rows with equal captions or images are positives of one
    another.
    """


class FeatureMSEOptions(ObjectiveOptions):
    """Mean squared error of embeddings; the formula stands in `objectives/feature_mse.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    needs_captions: ClassVar[bool] = False

    normalize_targets: bool = True
    """Whether the teacher's embeddings are brought to unit length; the published code of MMKD-CLIP does not.
    """


class CosineSmoothL1Options(ObjectiveOptions):
    """Cosine and smooth L1; the formula stands in `objectives/cosine_smooth_l1.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    needs_captions: ClassVar[bool] = False

    cosine: float = Field(default=0.5, ge=0)
    """Weight of the cosine term."""
    smooth_l1: float = Field(default=0.5, ge=0)
    """Weight of the smooth L1 term."""
    features: Literal["normalized", "standardized", "whitened"] | None = None
    """What is compared: vectors of unit length; those less the teacher's mean and divided by its standard
    deviation, channel by channel; or its leading principal components, as many as the student has channels,
    each with variance 1. By default whitened with the projection `learned_head`, normalised with others,
    whose maps have statistics of their own, and for teachers that are asked online, of which there are none.
    """

    @model_validator(mode="after")
    def _one_is_positive(self) -> "CosineSmoothL1Options":
        if self.cosine == self.smooth_l1 == 0:
            msg = "must have `cosine` or `smooth_l1` above 0; got 0 for both"
            raise ValueError(msg)
        return self


class TeacherScaleOptions(ObjectiveOptions):
    """Base of the options of objectives that look at a teacher's similarities."""

    requires: ClassVar[frozenset[Tower]] = _BOTH

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale."""


class SimilarityKLOptions(TeacherScaleOptions):
    """KL of similarities; the formula stands in `objectives/similarity_kl.py`."""


class AffinityMimickingOptions(TeacherScaleOptions):
    """Cross-entropy of similarities; the formula stands in `objectives/affinity_mimicking.py`."""

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale. TinyCLIP's scripts have 50."""


class GradientDistillationOptions(TeacherScaleOptions):
    """Gradients of the contrastive loss; the formula stands in `objectives/gradient_distillation.py`."""

    weight: PositiveFloat = 1e3
    """The factor before the objective in the sum; with `as_published` 1e8 unless given. It goes with the
    square of the rows that a teacher is asked about: for 128 of them, 1e3 to 1e4 bring its gradient to about
    that of the contrastive loss. Where one of nine teachers is drawn for each row, that is a ninth of the
    batch, and the loss is larger by 81.
    """
    as_published: bool = False
    """The bare diagonal as targets, and division by the logit scale where the formula multiplies by it."""

    @model_validator(mode="before")
    @classmethod
    def _published_weight(cls, values: Any) -> Any:
        published = isinstance(values, Mapping) and is_true(values.get("as_published")) is True
        return {"weight": PUBLISHED_GRADIENT_WEIGHT, **values} if published else values


class InteractiveContrastiveOptions(ObjectiveOptions):
    """Student against teacher; the formula stands in `objectives/interactive_contrastive.py`."""

    requires: ClassVar[frozenset[Tower]] = _BOTH

    scale: PositiveFloat | None = None
    """Factor before the cosines; by default the student's learnt logit scale."""
    as_published: bool = False
    """The bare diagonal as targets, the constant scale ln(1/0.07), the teacher's embeddings as they are, not
    brought to unit length, and one softmax over the batch in which each column is of the teacher drawn for
    that row. Needs a selection that draws one teacher, and teachers whose embeddings have one dim.
    """


class MaskedFeatureDistillationOptions(ObjectiveOptions):
    """Features of masked images; the formula stands in `objectives/masked_feature_distillation.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    needs_captions: ClassVar[bool] = False
    of_method: ClassVar[frozenset[str]] = frozenset({"ratio", "patch_size"})

    weight: PositiveFloat = 2000.0
    """The factor before the objective in the sum; the default is CLIP-KD's."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of the patches that the student does not see; one patch at least stays."""
    patch_size: PositiveInt = 16
    """Side of a patch in pixels of the student's input."""


class AugmentedFeatureFusionOptions(ObjectiveOptions):
    """Contrast of fused features; the formula stands in `objectives/augmented_feature_fusion.py`."""

    requires: ClassVar[frozenset[Tower]] = _BOTH


class _Objectives(BaseModel):
    """Objectives by name. In a recipe the value is the weight alone, or a mapping of options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _weight_alone(cls, value: Any) -> Any:
        number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"weight": value} if number else value

    @property
    def need_captions(self) -> tuple[str, ...]:
        """Those that the recipe names and in which rows without a caption have no part."""
        return tuple(name for name, options in self.chosen().items() if options.needs_captions)

    def chosen(self) -> dict[str, ObjectiveOptions]:
        """The objectives that the recipe names, in the order of the schema."""
        named = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: options for name, options in named if options is not None}


class StudentObjectives(_Objectives):
    """Objectives of the student alone."""

    contrastive: ContrastiveOptions | None = ContrastiveOptions()
    """Image against caption, within the batch (CLIP's loss)."""


class EmbeddingObjectives(_Objectives):
    """Objectives of the student alone and against its teachers' embeddings."""

    contrastive: ContrastiveOptions | None = None
    """Image against caption, within the batch (CLIP's loss)."""
    feature_mse: FeatureMSEOptions | None = None
    """Mean squared error between the student's and a teacher's embeddings."""
    cosine_smooth_l1: CosineSmoothL1Options | None = None
    """Cosine and smooth L1 distance between the two."""
    similarity_kl: SimilarityKLOptions | None = None
    """KL between the batch's similarity distributions of teacher and student."""
    interactive_contrastive: InteractiveContrastiveOptions | None = None
    """Contrast of the student's embeddings with the teacher's."""
    affinity_mimicking: AffinityMimickingOptions | None = None
    """Cross-entropy between the batch's similarity distributions of teacher and student (TinyCLIP)."""
    gradient_distillation: GradientDistillationOptions | None = None
    """Mean squared error between the gradients of the contrastive losses of both (CLIP-KD)."""
    masked_feature_distillation: MaskedFeatureDistillationOptions | None = None
    """Mean squared error of embeddings, with most of each image hidden from the student (CLIP-KD)."""
    augmented_feature_fusion: AugmentedFeatureFusionOptions | None = None
    """CLIP's loss of embeddings fused from the student's and the teacher's (CLIP-KD)."""
