"""What a recipe may say of each objective. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

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
from meddistill.errors import did_you_mean
from meddistill.signals import Tower
from meddistill.strict import Strict

_BOTH: frozenset[Tower] = frozenset({"image", "text"})
_IMAGE: frozenset[Tower] = frozenset({"image"})
PUBLISHED_GRADIENT_WEIGHT = 1e8
MASKED: Final = "masked"


@dataclass(frozen=True, kw_only=True)
class HiddenPatches:
    """A further pass of the student over its images, with the share `ratio` of their square patches hidden.

    `patch_size`: the side of a patch in pixels of the student's input. One patch at least stays.
    """

    patch_size: int
    ratio: float


class ObjectiveOptions(Strict):
    """Base of all options, and what an objective declares that it needs.

    `requires` names the towers that a teacher must have for this objective. A tower that a teacher has
    beyond those is used too. `needs_captions`: rows without a caption have no part in it. `is_distance`: it
    measures a distance in the space where student and teacher meet, so that its weight means something else
    in every space; contrastive objectives compare angles by a softmax, and those in the student's own space
    never see the projection. `own_layers`: it has layers, made for the student's and the teacher's dims.
    `of_method` names the keys that are for the method and not for the objective.
    """

    requires: ClassVar[frozenset[Tower]]
    needs_captions: ClassVar[bool] = True
    is_distance: ClassVar[bool] = False
    own_layers: ClassVar[bool] = False
    of_method: ClassVar[frozenset[str]] = frozenset()

    weight: PositiveFloat = 1.0
    """The factor before the objective in the sum."""

    @property
    def needs_logit_scale(self) -> bool:
        """Whether every teacher must have one."""
        return False

    @property
    def needs_statistics(self) -> bool:
        """Whether it is told to compare what takes the teachers' means and covariances."""
        return False

    @property
    def prefers_statistics(self) -> bool:
        """Whether it compares that where there are statistics, not being told what to compare."""
        return False

    @property
    def mixes_teachers(self) -> bool:
        """Whether the teachers drawn for the rows of a batch stand in one softmax."""
        return False

    @property
    def passes(self) -> Mapping[str, HiddenPatches]:
        """Name → a further pass of the student that it looks at."""
        return {}

    def resolved(self, *, statistics: bool) -> Self:  # noqa: ARG002
        """With what the recipe leaves open filled in, where there are `statistics` or none."""
        return self


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
    is_distance: ClassVar[bool] = True

    normalize_targets: bool = True
    """Whether the teacher's embeddings are brought to unit length; the published code of MMKD-CLIP does not.
    """


class CosineSmoothL1Options(ObjectiveOptions):
    """Cosine and smooth L1; the formula stands in `objectives/cosine_smooth_l1.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    needs_captions: ClassVar[bool] = False
    is_distance: ClassVar[bool] = True

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

    @property
    def needs_statistics(self) -> bool:
        """Told to compare standardised or whitened features."""
        return self.features in {"standardized", "whitened"}

    @property
    def prefers_statistics(self) -> bool:
        """Told nothing."""
        return self.features is None

    def resolved(self, *, statistics: bool) -> Self:
        """Whitened where there are statistics, else of unit length, unless told."""
        if self.features is not None:
            return self
        return self.model_copy(update={"features": "whitened" if statistics else "normalized"})


class TeacherScaleOptions(ObjectiveOptions):
    """Base of the options of objectives that look at a teacher's similarities."""

    requires: ClassVar[frozenset[Tower]] = _BOTH

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale."""

    @property
    def needs_logit_scale(self) -> bool:
        """Without a factor of its own."""
        return self.teacher_scale is None


class SimilarityKLOptions(TeacherScaleOptions):
    """KL of similarities; the formula stands in `objectives/similarity_kl.py`."""


class AffinityMimickingOptions(TeacherScaleOptions):
    """Cross-entropy of similarities; the formula stands in `objectives/affinity_mimicking.py`."""

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale. TinyCLIP's scripts have 50."""


class GradientDistillationOptions(TeacherScaleOptions):
    """Gradients of the contrastive loss; the formula stands in `objectives/gradient_distillation.py`."""

    is_distance: ClassVar[bool] = True

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

    @property
    def mixes_teachers(self) -> bool:
        """As published."""
        return self.as_published


class MaskedFeatureDistillationOptions(ObjectiveOptions):
    """Features of masked images; the formula stands in `objectives/masked_feature_distillation.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    needs_captions: ClassVar[bool] = False
    is_distance: ClassVar[bool] = True
    of_method: ClassVar[frozenset[str]] = frozenset({"ratio", "patch_size"})

    weight: PositiveFloat = 2000.0
    """The factor before the objective in the sum; the default is CLIP-KD's."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of the patches that the student does not see; one patch at least stays."""
    patch_size: PositiveInt = 16
    """Side of a patch in pixels of the student's input."""

    @property
    def passes(self) -> Mapping[str, HiddenPatches]:
        """The one over images with patches hidden."""
        return {MASKED: HiddenPatches(patch_size=self.patch_size, ratio=self.ratio)}


class AugmentedFeatureFusionOptions(ObjectiveOptions):
    """Contrast of fused features; the formula stands in `objectives/augmented_feature_fusion.py`."""

    requires: ClassVar[frozenset[Tower]] = _BOTH
    own_layers: ClassVar[bool] = True


# Objectives that others register (`objectives.registry.register`): name → the class of its options.
REGISTERED: Final[dict[str, type[ObjectiveOptions]]] = {}


class _Objectives(BaseModel):
    """Objectives by name. In a recipe the value is the weight alone, or a mapping of options."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @field_validator("*", mode="before")
    @classmethod
    def _weight_alone(cls, value: Any) -> Any:
        number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"weight": value} if number else value

    @model_validator(mode="before")
    @classmethod
    def _registered(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: REGISTERED[name].model_validate(cls._weight_alone(value)) if name in REGISTERED else value
            for name, value in values.items()
        }

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = sorted({*type(self).model_fields, *REGISTERED})
        unknown = [name for name in self.model_extra or {} if name not in REGISTERED]
        if unknown:
            near = did_you_mean(unknown[0], known)
            hint = f".{near}" if near else f"; there are {', '.join(known)}"
            msg = f"must name objectives; got {', '.join(unknown)}{hint}"
            raise ValueError(msg)
        return self

    def chosen(self) -> dict[str, ObjectiveOptions]:
        """The objectives that the recipe names, in the order of the schema, registered ones last."""
        named = {name: getattr(self, name) for name in type(self).model_fields} | (self.model_extra or {})
        return {name: options for name, options in named.items() if options is not None}


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
