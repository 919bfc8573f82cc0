"""What a recipe may say of each objective. Loads no torch."""

from collections.abc import Mapping, Set
from typing import Any, ClassVar, Final, Literal, Self, get_args

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
from meddistill.objectives.needs import BOTH, ByTeacher, HiddenPatches, Need, ObjectiveOptions
from meddistill.signals import Tower

_IMAGE: frozenset[Tower] = frozenset({"image"})
PUBLISHED_GRADIENT_WEIGHT = 1e8
MASKED: Final = "masked"
# The bank that every recipe has: the different captions of its training table.
CAPTIONS: Final = "captions"


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
    is_distance: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False

    normalize_targets: bool = True
    """Whether the teacher's embeddings are brought to unit length; the published code of MMKD-CLIP does not.
    """

    @property
    def needs_captions(self) -> bool:
        """No."""
        return False


class CosineSmoothL1Options(ObjectiveOptions):
    """Cosine and smooth L1; the formula stands in `objectives/cosine_smooth_l1.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE
    is_distance: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False
    remedies: ClassVar[Mapping[Need, str]] = {"statistics": "set `features` to normalized"}

    cosine: float = Field(default=0.5, ge=0)
    """Weight of the cosine term."""
    smooth_l1: float = Field(default=0.5, ge=0)
    """Weight of the smooth L1 term."""
    features: Literal["normalized", "standardized", "whitened"] | None = None
    """What is compared: vectors of unit length; those less the teacher's mean and divided by its standard
    deviation, channel by channel; or its leading principal components, as many as the student has channels,
    each with variance 1. By default whitened with the projection `learned_head`, normalised with others,
    whose maps have statistics of their own, and for teachers that run online, which have none.
    """

    @model_validator(mode="after")
    def _one_is_positive(self) -> "CosineSmoothL1Options":
        if self.cosine == self.smooth_l1 == 0:
            msg = "must have `cosine` or `smooth_l1` above 0; got 0 for both"
            raise ValueError(msg)
        return self

    @property
    def needs_captions(self) -> bool:
        """No."""
        return False

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

    requires: ClassVar[frozenset[Tower]] = BOTH
    remedies: ClassVar[Mapping[Need, str]] = {"logit_scale": "set `teacher_scale`"}

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale."""

    @property
    def needs_logit_scale(self) -> bool:
        """Without a factor of its own."""
        return self.teacher_scale is None


class SimilarityOptions(TeacherScaleOptions):
    """Base of the options of objectives that compare distributions over the batch."""

    by_teacher: ClassVar[frozenset[str]] = frozenset({"temperature"})

    temperature: ByTeacher = 1.0
    """Divides the logits of both, and its square multiplies the loss: above 1 the small similarities count
    more. A number, or teacher → number.
    """
    merge_positives: bool = False
    """Whether the columns with a row's own image or caption are one event, to which teacher and student give
    the sum of their probabilities. For images with several captions, or captions of several images: the
    student need not tell them apart as the teacher does.
    """


class SimilarityKLOptions(SimilarityOptions):
    """KL of similarities; the formula stands in `objectives/similarity_kl.py`."""


class ClassVectorKLOptions(TeacherScaleOptions):
    """KL of similarities to class vectors; the formula stands in `objectives/class_vector_kl.py`."""

    trains: ClassVar[frozenset[Tower]] = _IMAGE
    by_teacher: ClassVar[frozenset[str]] = frozenset({"temperature"})
    remedies: ClassVar[Mapping[Need, str]] = {
        **TeacherScaleOptions.remedies,
        "bank": "set `negatives` to batch or queue",
    }

    negatives: Literal["batch", "bank", "queue"] = "batch"
    """Which texts' features of the teacher are the class vectors: those of the captions of the `batch`, those
    of a `bank` of fixed texts, or those of the batch and of a `queue` of captions of earlier batches.
    """
    bank: str | None = Field(default=None, min_length=1)
    """With `negatives: bank` the bank's name under `features.banks`, or `captions`: the different captions of
    the training table.
    """
    queue_size: PositiveInt | None = None
    """With `negatives: queue` how many earlier captions it holds."""
    temperature: ByTeacher = 1.0
    """Divides the logits of both, and its square multiplies the loss. A number, or teacher → number."""

    @model_validator(mode="after")
    def _negatives_are_described(self) -> Self:
        mistakes = []
        for key, kind in (("bank", "bank"), ("queue_size", "queue")):
            value = getattr(self, key)
            if (value is None) == (self.negatives == kind):
                rule = "be given" if value is None else "be absent"
                got = "none" if value is None else value
                mistakes.append(f"`{key}` must {rule} for `negatives: {self.negatives}`; got {got}")
        if mistakes:
            raise ValueError(". ".join(mistakes))
        return self

    @property
    def needs_captions(self) -> bool:
        """Where the class vectors are of the rows' own captions."""
        return self.negatives != "bank"

    @property
    def needs_bank(self) -> str | None:
        """The one of `negatives: bank`."""
        return self.bank

    @property
    def needs_space_dim(self) -> bool:
        """For a queue."""
        return self.negatives == "queue"


class AffinityMimickingOptions(SimilarityOptions):
    """Cross-entropy of similarities; the formula stands in `objectives/affinity_mimicking.py`."""

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale. TinyCLIP's scripts have 50."""


class GradientDistillationOptions(TeacherScaleOptions):
    """Gradients of the contrastive loss; the formula stands in `objectives/gradient_distillation.py`."""

    is_distance: ClassVar[bool] = True

    weight: PositiveFloat = 1e3
    """The factor before the objective in the sum; with `as_published` 1e8 unless given. It goes with the
    square of the rows that a teacher is used for: for 128 of them, 1e3 to 1e4 bring its gradient to about
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

    requires: ClassVar[frozenset[Tower]] = BOTH
    remedies: ClassVar[Mapping[Need, str]] = {"mixed_teachers": "leave `as_published` out"}

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
    is_distance: ClassVar[bool] = True
    compares_rows: ClassVar[bool] = False
    of_method: ClassVar[frozenset[str]] = frozenset({"ratio", "patch_size"})

    weight: PositiveFloat = 2000.0
    """The factor before the objective in the sum; the default is CLIP-KD's."""

    ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of the patches that the student does not see; one patch at least stays."""
    patch_size: PositiveInt = 16
    """Side of a patch in pixels of the student's input."""

    @property
    def needs_captions(self) -> bool:
        """No."""
        return False

    @property
    def passes(self) -> Mapping[str, HiddenPatches]:
        """The one over images with patches hidden."""
        return {MASKED: HiddenPatches(patch_size=self.patch_size, ratio=self.ratio)}


class AugmentedFeatureFusionOptions(ObjectiveOptions):
    """Contrast of fused features; the formula stands in `objectives/augmented_feature_fusion.py`."""

    requires: ClassVar[frozenset[Tower]] = BOTH
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
    class_vector_kl: ClassVectorKLOptions | None = None
    """KL between teacher and student of an image's similarities to texts' features of the teacher."""
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

    @classmethod
    def within(cls, towers: Set[Tower]) -> list[str]:
        """The objectives against a teacher that need none of its towers but these, and no captions."""
        named = {name: get_args(field.annotation)[0]() for name, field in cls.model_fields.items()}
        return [
            name
            for name, options in named.items()
            if options.requires and options.requires <= towers and not options.needs_captions
        ]
