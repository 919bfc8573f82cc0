"""What a recipe may say of a method. Loads no torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from meddistill.balancing.config import (
    AvailableConfig,
    BatchDrawConfig,
    RandomDrawConfig,
    SelectionConfig,
    UniformConfig,
    WeightingConfig,
    WeightingOptions,
)
from meddistill.errors import ConfigError
from meddistill.features.projections.config import FittedConfig, LearnedHeadConfig, ProjectionConfig
from meddistill.objectives.config import (
    ContrastiveOptions,
    CosineSmoothL1Options,
    EmbeddingObjectives,
    StudentObjectives,
)
from meddistill.objectives.needs import ObjectiveOptions
from meddistill.signals import Tower
from meddistill.strict import Strict


class MethodConfig(Strict):
    """What every stage says of its method, and what can be asked of it without knowing which it is."""

    method: str
    """The stage's method."""

    @property
    def chosen(self) -> Mapping[str, ObjectiveOptions]:
        """Objective → its options."""
        raise NotImplementedError

    @property
    def needs_teachers(self) -> bool:
        """Whether the student learns from teachers."""
        return False

    @property
    def trains_student(self) -> bool:
        """Whether the student is what is trained."""
        return True

    @property
    def derived_dim(self) -> int | None:
        """Dim of the teacher that the stage derives; None where it derives none."""
        return None

    @property
    def by_pair(self) -> bool:
        """Whether the derived teacher has a row a pair."""
        return False

    @property
    def stops_after(self) -> int | None:
        """Epochs without a better number of the validation rows that end the stage; None goes through all."""
        return None

    @property
    def named_teachers(self) -> tuple[str, ...] | None:
        """The teachers that the recipe names for the stage; None where it leaves them open."""
        return None

    @property
    def compared_rows(self) -> tuple[str, ...]:
        """What of the method compares a teacher's rows with one another, in words."""
        return tuple(
            f"the objective {name}"
            for name, options in self.chosen.items()
            if options.requires and options.compares_rows
        )

    @property
    def needs_statistics(self) -> tuple[str, ...]:
        """The objectives that are told to compare what takes the teachers' means and covariances."""
        return tuple(name for name, options in self.chosen.items() if options.needs_statistics)

    @property
    def prefers_statistics(self) -> tuple[str, ...]:
        """The objectives that compare it by default, where there are any."""
        return ()

    @property
    def uses_statistics(self) -> bool:
        """Whether means and covariances of the teachers are used where there are any."""
        return bool(self.needs_statistics or self.prefers_statistics)

    @property
    def banks(self) -> tuple[str, ...]:
        """The banks of texts whose features its objectives compare with."""
        named = (options.needs_bank for options in self.chosen.values())
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def by_teacher(self) -> Mapping[str, Mapping[str, float]]:
        """Key → teacher → number, wherever the recipe gives one for each teacher."""
        return {
            f"objectives.{name}.{key}": values
            for name, options in self.chosen.items()
            for key, values in options.given_by_teacher.items()
        }

    @property
    def needs_captions(self) -> tuple[str, ...]:
        """What of the method has no part for rows without a caption, in words."""
        return tuple(
            f"the objective {name}" for name, options in self.chosen.items() if options.needs_captions
        )

    @property
    def only_captioned(self) -> bool:
        """Whether rows without a caption have no part in any objective."""
        return all(options.needs_captions for options in self.chosen.values())

    @property
    def sees_stored_views(self) -> bool:
        """Whether the student must see the views that its teachers saw."""
        return False

    @property
    def fitted_projection(self) -> FittedConfig | None:
        """The projection that is fitted from the feature store before the stage, if there is one."""
        return None

    @property
    def weighting_options(self) -> WeightingOptions:
        """What is asked of the weighting; that of a method without one asks nothing."""
        return WeightingOptions()

    @property
    def teacher_weights(self) -> Mapping[str, float] | None:
        """Teacher → its weight, where the recipe gives them."""
        return self.weighting_options.teacher_weights

    @property
    def group_column(self) -> str | None:
        """The column of the training table by whose values rows are weighed apart."""
        return self.weighting_options.group_column

    def without_teachers(self, left_out: Collection[str]) -> Self:  # noqa: ARG002
        """The same method, as it is for the stage's other teachers."""
        return self

    def weighted_teachers(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the teachers that the student learns from: without the ones of weight 0."""
        weights = self.teacher_weights
        teachers = names if self.needs_teachers else ()
        return tuple(name for name in teachers if weights is None or weights.get(name, 0) > 0)

    def too_few_teachers(self, names: Sequence[str]) -> list[str]:
        """One line for everything that these teachers are too few for."""
        return self.weighting_options.too_few_teachers(names)

    def unmet_signals(self, signals: Mapping[str, Set[Tower]]) -> list[str]:
        """One line for each objective that needs a signal which a teacher (by name) does not give."""
        return [
            f"teacher `{teacher}` must have {_and(options.requires)} embeddings for the objective "
            f"{objective}; got {_and(present) or 'none'}. Leave the teacher or the objective out"
            f"{_own_stage(teacher, present)}."
            for teacher, present in signals.items()
            for objective, options in self.chosen.items()
            if not options.requires <= present
        ]


class ContrastiveConfig(MethodConfig):
    """The student alone, on pairs of image and caption."""

    method: Literal["contrastive"]
    """The student alone."""
    objectives: StudentObjectives = StudentObjectives()
    """Objective → weight, or its options."""
    views: Literal["fresh"] = "fresh"
    """Another view of every image in every epoch."""

    @property
    def chosen(self) -> Mapping[str, ObjectiveOptions]:
        """Objective → its options."""
        return self.objectives.chosen()


class EmbeddingConfig(MethodConfig):
    """The student against its teachers' embeddings; the default objectives need no more than images."""

    teachers: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ids of the teachers that the stage learns from; by default all of the recipe, and those that fusion
    stages before this one derived from them.
    """
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
    """`equal_gradient`: with a projection other than `learned_head`, the weights of the objectives that
    measure a distance between embeddings or gradients are scaled, once, such that their gradients at the
    student's embeddings of the first batch are as long as through fresh learned heads; 50 means something
    else in every space. `none`: weights as given, as published.
    """
    views: Literal["fixed", "consistent"] = "fixed"
    """`fixed`: the student's view is fresh, the teachers' is the whole image (view 0), as in MMKD-CLIP.
    `consistent`: both see the same view, one of those that the store holds.
    """

    @property
    def chosen(self) -> Mapping[str, ObjectiveOptions]:
        """Objective → its options."""
        return self.objectives.chosen()

    @property
    def needs_teachers(self) -> bool:
        """Always."""
        return True

    @property
    def named_teachers(self) -> tuple[str, ...] | None:
        """`teachers`."""
        return self.teachers

    @property
    def compared_rows(self) -> tuple[str, ...]:
        """The objectives, and the weighting `confidence`."""
        return (*super().compared_rows, *self._doubts)

    @property
    def draws_one(self) -> bool:
        """Whether at most one teacher counts for a row."""
        return isinstance(self.selection, RandomDrawConfig | BatchDrawConfig)

    @property
    def prefers_statistics(self) -> tuple[str, ...]:
        """In the teachers' own spaces those that are not told what to compare."""
        if self.fitted_projection is not None:
            return ()
        return tuple(name for name, options in self.chosen.items() if options.prefers_statistics)

    @property
    def needs_captions(self) -> tuple[str, ...]:
        """The objectives, and the weighting `confidence`."""
        return (*super().needs_captions, *self._doubts)

    @property
    def _doubts(self) -> tuple[str, ...]:
        return ("the weighting confidence",) if self.weighting.kind == "confidence" else ()

    @property
    def sees_stored_views(self) -> bool:
        """With `views: consistent`."""
        return self.views == "consistent"

    @property
    def fitted_projection(self) -> FittedConfig | None:
        """All but `learned_head`."""
        return None if isinstance(self.projection, LearnedHeadConfig) else self.projection

    @property
    def weighting_options(self) -> WeightingOptions:
        """The weighting."""
        return self.weighting

    def without_teachers(self, left_out: Collection[str]) -> Self:
        """Without weights of theirs. Raises ConfigError where none above 0 is left."""
        given = self.teacher_weights
        if given is None or not set(left_out) & set(given):
            return self
        weights = {name: weight for name, weight in given.items() if name not in left_out}
        if not any(weights.values()):
            subject = "weighting"
            gone = ", ".join(name for name in given if name in left_out)
            line = (
                f"`weights` must be above 0 for a teacher that is there; got none but of {gone}, left out "
                "because its fused embeddings retrieve no better than a teacher alone. Give another one a "
                "weight, or take the stage out."
            )
            raise ConfigError(subject, [line])
        rest = self.weighting.model_copy(update={"weights": weights})
        return self.model_copy(update={"weighting": rest})

    def resolved_objectives(self, *, statistics: bool) -> dict[str, ObjectiveOptions]:
        """The objectives that the recipe names, with what they leave open filled in.

        `statistics`: whether the teachers come with their means and covariances.
        """
        there = statistics and self.uses_statistics
        return {name: options.resolved(statistics=there) for name, options in self.chosen.items()}

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
            for name, options in self.chosen.items():
                if options.needs_bank is None:
                    continue
                msg = (
                    f"`{name}` must compare with no bank with the projection joint_pca, in whose space the "
                    "teachers of a row change with the row and a bank has none; got the bank "
                    f"{options.needs_bank}. Choose another projection, or {options.remedy('bank')}"
                )
                raise ValueError(msg)
            if self.by_teacher:
                key = next(iter(self.by_teacher))
                msg = (
                    f"`{key}` must be one number with the projection joint_pca, to which all teachers are one"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _statistics_once(self) -> Self:
        if self.needs_statistics and self.projection.kind != "learned_head":
            name = self.needs_statistics[0]
            msg = (
                f"`{name}` must do without statistics with a projection other than learned_head, since they "
                f"are of the teachers' own spaces; got {self.projection.kind}. Choose learned_head, or "
                f"{self.chosen[name].remedy('statistics')}; phi_s standardises by itself"
            )
            raise ValueError(msg)
        return self


def _own_stage(teacher: str, present: Set[Tower]) -> str:
    """A stage with objectives that ask for no more than such a teacher has, as a remedy."""
    named = EmbeddingObjectives.within(present)
    if not named:
        return ""
    return f", or give the teacher a stage of its own: `teachers: [{teacher}]` with {' or '.join(named[:2])}"


def _and(names: Set[str]) -> str:
    return " and ".join(sorted(names))
