"""What a recipe may say of each objective. Loads no torch."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

Tower = Literal["image", "text"]
_BOTH: frozenset[Tower] = frozenset({"image", "text"})
_IMAGE: frozenset[Tower] = frozenset({"image"})


class ObjectiveOptions(BaseModel):
    """Base of all options.

    `requires` names the towers that a teacher must have for this objective. A tower that a teacher has
    beyond those is used too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    requires: ClassVar[frozenset[Tower]]

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

    normalise_targets: bool = True
    """Whether the teacher's embeddings are brought to unit length; the published code of MMKD-CLIP does not.
    """


class CosineSmoothL1Options(ObjectiveOptions):
    """Cosine and smooth L1; the formula stands in `objectives/cosine_smooth_l1.py`."""

    requires: ClassVar[frozenset[Tower]] = _IMAGE

    cosine: float = Field(default=0.5, ge=0)
    """Weight of the cosine term."""
    smooth_l1: float = Field(default=0.5, ge=0)
    """Weight of the smooth L1 term."""
    features: Literal["normalised", "standardised"] = "normalised"
    """What is compared: vectors of unit length, or standardised ones."""

    @model_validator(mode="after")
    def _one_is_positive(self) -> "CosineSmoothL1Options":
        if self.cosine == self.smooth_l1 == 0:
            msg = "must have `cosine` or `smooth_l1` above 0; got 0 for both"
            raise ValueError(msg)
        return self


class SimilarityKLOptions(ObjectiveOptions):
    """KL of similarities; the formula stands in `objectives/similarity_kl.py`."""

    requires: ClassVar[frozenset[Tower]] = _BOTH

    teacher_scale: PositiveFloat | None = None
    """Factor before the teacher's cosines; by default its own logit scale."""


class InteractiveContrastiveOptions(ObjectiveOptions):
    """Student against teacher; the formula stands in `objectives/interactive_contrastive.py`."""

    requires: ClassVar[frozenset[Tower]] = _BOTH

    scale: PositiveFloat | None = None
    """Factor before the cosines; by default the student's learnt logit scale."""
    as_published: bool = False
    """The bare diagonal as targets and the constant scale ln(1/0.07)."""


class _Objectives(BaseModel):
    """Objectives by name. In a recipe the value is the weight alone, or a mapping of options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _weight_alone(cls, value: Any) -> Any:
        number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"weight": value} if number else value

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
