"""What a recipe may say of selection and weighting. Loads no torch."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from meddistill.balancing.torchjd_methods import MethodName, option_mistakes
from meddistill.strict import Strict


class AvailableConfig(Strict):
    """Every teacher that is available for a row counts for it."""

    kind: Literal["available"] = "available"
    """Every teacher that knows the row's modality."""


class RandomDrawConfig(Strict):
    """One teacher a row, drawn uniformly from those available for it."""

    kind: Literal["random_draw"] = "random_draw"
    """One of those, drawn uniformly for each row."""


class BatchDrawConfig(Strict):
    """One teacher for the whole batch, drawn with chances in proportion to the rows that it is available for.

    So every available pair of row and teacher counts equally in the long run, and no batch is drawn for a
    teacher that has none of its rows. Rows that the drawn teacher lacks have no teacher in that step.
    """

    kind: Literal["batch_draw"] = "batch_draw"
    """One teacher for the whole batch."""


class TeacherDroppingConfig(Strict):
    """Of a row's available teachers the one with the highest loss, and each of the others by chance (UNIC).

    The losses must be known first, so dropping acts after them: every available teacher is compared with, and
    a row that is dropped for a teacher has been a negative of that teacher's other rows.
    """

    kind: Literal["teacher_dropping"] = "teacher_dropping"
    """The one with the highest loss, and each of the others by chance."""
    probability: float = Field(default=0.5, ge=0, le=1)
    """That a teacher other than the one with the highest loss is dropped for a row."""


class WeightingOptions(Strict):
    """What can be asked of a weighting without knowing which it is."""

    @property
    def teacher_weights(self) -> Mapping[str, float] | None:
        """Teacher → its weight, where the recipe gives them."""
        return None

    @property
    def group_column(self) -> str | None:
        """The column of the training table by whose values rows are weighed apart."""
        return None

    def too_few_teachers(self, names: Sequence[str]) -> list[str]:  # noqa: ARG002
        """One line for everything that these teachers are too few for."""
        return []


class UniformConfig(WeightingOptions):
    """Equal weights over the selected teachers of a row."""

    kind: Literal["uniform"] = "uniform"
    """Equal weights."""


class FixedConfig(WeightingOptions):
    """Given weights by teacher, normalised over the selected teachers of a row."""

    kind: Literal["fixed"] = "fixed"
    """Given weights."""
    weights: Mapping[str, NonNegativeFloat]
    """Every teacher → weight; 0 leaves one out, of draws too. Normalised over a row's selected teachers."""

    @model_validator(mode="after")
    def _one_is_positive(self) -> "FixedConfig":
        if not any(self.weights.values()):
            msg = f"`weights` must name a teacher with a weight above 0; got {dict(self.weights)}"
            raise ValueError(msg)
        return self

    @property
    def teacher_weights(self) -> Mapping[str, float]:
        """`weights`."""
        return self.weights


class UncertaintyConfig(WeightingOptions):
    """Weights exp(−s) by teacher, with learnt log-variances s (Kendall et al.), normalised over the selected
    teachers of a row.
    """

    kind: Literal["uncertainty"] = "uncertainty"
    """Weights learnt with the student: less for teachers whose losses are large."""
    rate: PositiveFloat = 10.0
    """Learning rate of the log-variances, in units of the stage's. With 1 and a small learning rate they
    hardly move from their start, equal weights.
    """


class ConfidenceConfig(WeightingOptions):
    """Weights (1 − softmax of a row's teachers' doubts) / (M − 1) over its M selected teachers (CA-MKD).

    A teacher's doubt of a row is its own contrastive loss there: how badly it separates the row's image
    and caption from the batch's others. It needs teachers with an image and a text tower.
    """

    kind: Literal["confidence"] = "confidence"
    """More for teachers that recognise the row's own image and caption."""
    teacher_scale: PositiveFloat | None = None
    """Factor before the teachers' cosines; by default each one's own logit scale."""


class MinNormConfig(WeightingOptions):
    """The weights of the shortest mixture of the teachers' gradients at the student's embeddings, none above
    `max_weight` (MGDA; with a bound AE-KD, and as far as it is known AMMKD).

    One weight a teacher and step, or a teacher, step and group of rows. With three teachers or more each step
    that solves the problem waits once for the device.
    """

    kind: Literal["min_norm"] = "min_norm"
    """Those that make the mixture of the teachers' gradients as short as can be."""
    max_weight: float = Field(default=1.0, gt=0, le=1)
    """C, the largest weight of a teacher: 1 is MGDA, by which no teacher's loss rises but short gradients
    take most of the weight; 1 / (number of teachers) weighs all alike, and less is refused. AE-KD has 0.6.
    A batch with fewer teachers raises it to 1 / (their number).
    """
    normalize: bool = False
    """Whether the gradients are brought to one length before, and the weights divided by the lengths after,
    as in AE-KD's `svm_norm`: their directions alone decide that of the step.
    """
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """The share of the earlier weights in a running mean over the steps; 0 keeps none, 0.9 averages over some
    ten. The mean starts at equal weights.
    """
    every: PositiveInt = 1
    """The weights are found anew in every n-th step, and kept between."""
    by: str | None = Field(default=None, min_length=1)
    """Column of the training table, for example the one of modalities: each of its values has weights of its
    own. It must have few values; a blank one counts as one of them.
    """

    @property
    def group_column(self) -> str | None:
        """`by`."""
        return self.by

    def too_few_teachers(self, names: Sequence[str]) -> list[str]:
        """`max_weight`, where so few weights cannot sum to 1."""
        count = len(names)
        if self.max_weight * count > 1 - 1e-9:
            return []
        return [
            "`weighting.max_weight` must be at least 1 / (number of teachers), or weights cannot sum to 1; "
            f"got {self.max_weight} for {', '.join(names)}. Set {math.ceil(1000 / count) / 1000} or more."
        ]


class LearnedConfig(WeightingOptions):
    """Weights that a small network gives, learnt with the student."""

    entropy: float = Field(default=1.0, ge=0)
    """How far the weights are kept from one teacher alone: they settle at exp(−loss / (entropy · mean loss)),
    normalised. 0 is as published, and the weight of the easiest teacher goes to 1.
    """
    rate: PositiveFloat = 10.0
    """Learning rate of the network, in units of the stage's."""


class LossMLPConfig(LearnedConfig):
    """Weights that a small MLP gives for the teachers' losses, one a teacher and step (Zeng et al., 2025)."""

    kind: Literal["loss_mlp"] = "loss_mlp"
    """Those of a small MLP that sees the teachers' losses."""
    hidden: PositiveInt = 16
    """Width of its hidden layer."""


class AttentionConfig(LearnedConfig):
    """Weights by attention of a learned query over a key for each teacher (Zeng et al., 2025)."""

    kind: Literal["attention"] = "attention"
    """Those of a learned query over a key for each teacher."""
    keys: Literal["learned", "pooled"] = "learned"
    """`learned`: a vector a teacher, so that all rows have the same weights. `pooled`: a linear map of what
    the teacher outputs for the image, so that each image has weights of its own.
    """
    dim: PositiveInt = 16
    """Dimension of query and keys."""


class TorchJDConfig(WeightingOptions):
    """A rule of the library torchjd: over the teachers' gradients at the student's embeddings
    (`aligned_mtl`, `cagrad`, `dualproj`, `fairgrad`, `imtl_g`, `mgda`, `nash_mtl`, `pcgrad`, `upgrad`), or
    over their mean losses alone (`cosmos`, `geometric_mean`, `pbi`, `random`, `stch`).

    One weight a teacher and step. The rule decides their proportions; their absolute values are brought to
    sum 1, so that the objectives keep their weights. `cagrad` needs the packages cvxpy and clarabel,
    `nash_mtl` needs cvxpy and ecos. Each step waits once for the device.
    """

    kind: Literal["torchjd"] = "torchjd"
    """A rule of the library torchjd."""
    method: MethodName
    """The rule."""
    options: Mapping[str, float | str] = {}
    """The rule's own options: `scale_mode` of aligned_mtl; `c` of cagrad; `alpha` of fairgrad; `epsilon`,
    `max_iters` of mgda; `optim_niter` of nash_mtl; `lambda` of cosmos; `theta` of pbi; `mu` of stch.
    """

    @field_validator("options")
    @classmethod
    def _belong_to_the_method(
        cls, value: Mapping[str, float | str], info: ValidationInfo
    ) -> Mapping[str, float | str]:
        method = info.data.get("method")
        mistakes = [] if method is None else option_mistakes(method, value)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return value


SelectionConfig = Annotated[
    AvailableConfig | RandomDrawConfig | BatchDrawConfig | TeacherDroppingConfig, Field(discriminator="kind")
]
WeightingConfig = Annotated[
    UniformConfig
    | FixedConfig
    | UncertaintyConfig
    | ConfidenceConfig
    | MinNormConfig
    | LossMLPConfig
    | AttentionConfig
    | TorchJDConfig,
    Field(discriminator="kind"),
]
