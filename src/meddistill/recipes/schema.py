"""The recipe: a lab record in YAML, strict in its keys. Loads no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from meddistill.bundle.config import BundleConfig
from meddistill.data.config import TextTable, TrainingTableConfig
from meddistill.errors import did_you_mean
from meddistill.features.config import AvailabilityConfig, ExtractOptions
from meddistill.fusion.config import FusionConfig
from meddistill.licences import LicenceTerms, Policy, resolve
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.objectives.config import CAPTIONS
from meddistill.recipes.baselines import BaselineConfig
from meddistill.strict import StrictSettings
from meddistill.students.config import StudentConfig
from meddistill.teachers.config import StoredTeacher, TeacherEntry
from meddistill.training.config import TrainingConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


class About(StrictSettings):
    """The header of the lab record; for readers only."""

    what: str = ""
    """One sentence: what the recipe makes."""
    paper: str = ""
    """The paper that it follows."""
    figure: str = ""
    """The figure or table that it repeats."""
    command: str = ""
    """The exact command."""
    hardware: str = ""
    """What it ran on."""
    wall_time: str = ""
    """How long it took there."""
    expected: str = ""
    """The numbers to expect, with their spread."""
    seed: int | None = None
    """For the record; the seeds that count stand at the stages."""


class DataConfig(StrictSettings):
    """What is learnt from."""

    train: TrainingTableConfig
    """The images to learn from, with their captions. `text` may be left out, and its cells may be blank, for
    stages whose objectives need no caption; rows without one have no part in the others.
    """
    validation: TrainingTableConfig | None = None
    """Rows that nothing is learnt from, by which a stage chooses among its epochs; they share no patient and
    no image with `train`. Today fusion stages look at them: their pairs of image and caption.
    """
    licences: Mapping[str, str | LicenceTerms] = {}
    """Data set → a known licence or terms; the student inherits them."""

    @model_validator(mode="after")
    def _decoded_alike(self) -> Self:
        if self.validation is not None and self.validation.decode != self.train.decode:
            msg = (
                "`validation.decode` must be that of `train`: the rows of both stand in one feature store. "
                "Give both the same `decode`, or none"
            )
            raise ValueError(msg)
        return self

    @property
    def terms(self) -> dict[str, LicenceTerms]:
        """The licences of the data as terms."""
        return {name: resolve(licence) for name, licence in self.licences.items()}


class FeaturesConfig(ExtractOptions):
    """How teachers' outputs reach the student."""

    source: Literal["stored", "online"] = "stored"
    """`stored`: teachers run once, into the run's feature store. `online`: they run in every step,
    which waits for them.
    """
    banks: Mapping[Name, str | TextTable] = {}
    """Name → further texts that the teachers read once, into the feature store, for objectives that compare
    with a bank: a file with one text a line (UTF-8), or a table and its column, relative to the recipe. Texts
    that are alike to a model count once. `captions` is no name for one: so is called the bank of the
    training table's own captions, which every recipe has.
    """
    availability: AvailabilityConfig = AvailabilityConfig()
    """Which teachers are available for which rows, besides the teachers' own `modalities`."""

    @field_validator("banks")
    @classmethod
    def _captions_are_a_bank(cls, value: Mapping[str, str | TextTable]) -> Mapping[str, str | TextTable]:
        if CAPTIONS in value:
            msg = (
                f"must not name a bank {CAPTIONS}, which is that of the training table's captions; rename it"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _quantiles_are_known(self) -> Self:
        if self.source == "online" and self.availability.agreement_quantile is not None:
            msg = (
                "`availability.agreement_quantile` must be absent for `source: online`: a quantile needs the "
                "features of every pair, and only a store has them. Use `source: stored`"
            )
            raise ValueError(msg)
        return self


class ContrastiveStage(TrainingConfig, ContrastiveConfig):
    """A stage of the student alone."""

    name: Name
    """Names the stage's folder `stages/<name>/`."""


class EmbeddingStage(TrainingConfig, EmbeddingConfig):
    """A stage against the teachers' embeddings."""

    method: Literal["embedding"]
    """The student against its teachers' embeddings."""
    name: Name
    """Names the stage's folder `stages/<name>/`."""


class FusionStage(TrainingConfig, FusionConfig):
    """A stage that derives a teacher from others."""

    name: Name
    """Names the stage's folder `stages/<name>/` and the derived teacher."""


AnyStage = ContrastiveStage | EmbeddingStage | FusionStage
StageConfig = Annotated[AnyStage, Field(discriminator="method")]


class EvaluateConfig(StrictSettings):
    """What the student, its teachers and other models are evaluated on."""

    suite: Path
    """The suite file, relative to the recipe."""
    baselines: Mapping[Name, BaselineConfig] = {}
    """Name → a model to compare the student with: an entry as under `teachers` for a frozen model that the
    student learns nothing from, or the folder of another student. Licences are shown and not inherited.
    """
    batch_size: int = Field(default=64, gt=0)
    """Images embedded at once."""


class ReportConfig(StrictSettings):
    """What the report may show."""

    examples: bool = False
    """Whether images, captions, questions and outlines of the evaluation may stand in the report, and the
    words of answers and outlines in the predictions.
    """


class Recipe(StrictSettings):
    """Everything a run needs, and nothing else decides it."""

    name: Name
    """Names the run; its folder is `runs/<name>` unless `--out` says otherwise."""
    about: About = About()
    """The header of the lab record."""
    data: DataConfig
    """What is learnt from."""
    teachers: Mapping[Name, TeacherEntry] = {}
    """Id → teacher. Ids name folders of the feature store and columns of the report."""
    features: FeaturesConfig = FeaturesConfig()
    """How the teachers' outputs are stored."""
    student: StudentConfig
    """What is trained."""
    stages: tuple[StageConfig, ...] = Field(min_length=1)
    """Trained in this order, each from where the one before left the student."""
    evaluate: EvaluateConfig | None = None
    """What student and teachers are evaluated on; without it they are not."""
    bundle: BundleConfig | None = BundleConfig()
    """What the exported bundle holds; null exports none."""
    report: ReportConfig = ReportConfig()
    """What the report may show."""
    licence_policy: Policy = "research"
    """`permissive`, `research` or `any`: which licences of teachers, weights and data are let in."""
    smoke: Mapping[str, Any] = {}
    """Dotted keys → the values that bring the recipe under a minute; `--smoke` applies them."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [stage.name for stage in self.stages]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            msg = f"`stages` must have different names; got {', '.join(repeated)} more than once"
            raise ValueError(msg)
        if self.needs_teachers and not self.teachers:
            msg = "`teachers` must name one at least for a stage that distils; got none"
            raise ValueError(msg)
        self._names_differ()
        self._stored_teachers_share_a_store()
        self._availability_fits_teachers()
        for stage in self.stages:
            self._fits_teachers(stage)
        return self

    @property
    def needs_teachers(self) -> bool:
        """Whether a stage learns from teachers."""
        return any(stage.needs_teachers for stage in self.stages)

    def teachers_of(self, stage: AnyStage) -> tuple[str, ...]:
        """Ids of the teachers that a stage learns from, in the order of the recipe.

        Those that the stage names; by default all of the recipe and, but for a stage that fuses some, those
        derived before it.
        """
        if not stage.needs_teachers:
            return ()
        if stage.named_teachers is not None:
            return stage.named_teachers
        derived = self.derived_before(stage) if stage.trains_student else ()
        return (*self.teachers, *derived)

    def derived_before(self, stage: AnyStage) -> tuple[str, ...]:
        """Ids of the teachers that stages before this one derive."""
        before = self.stages[: [each.name for each in self.stages].index(stage.name)]
        return tuple(each.name for each in before if not each.trains_student)

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Columns of the training table by which stages weigh rows apart."""
        columns = (stage.group_column for stage in self.stages)
        return tuple(dict.fromkeys(name for name in columns if name is not None))

    @property
    def banks(self) -> frozenset[str]:
        """The banks of texts that objectives of its stages compare with."""
        return frozenset(name for stage in self.stages for name in stage.banks)

    @property
    def given_store(self) -> str | None:
        """The feature store of teachers of kind `stored`, as the recipe has it; None without any."""
        return next((each.store for each in self.teachers.values() if isinstance(each, StoredTeacher)), None)

    def _names_differ(self) -> None:
        baselines = self.evaluate.baselines if self.evaluate else {}
        taken = sorted({"student", *self.teachers} & set(baselines))
        if taken:
            msg = (
                "`evaluate.baselines` must have names of their own, not `student` and none of a teacher; got "
                f"{', '.join(taken)}. Rename"
            )
            raise ValueError(msg)

    def _stored_teachers_share_a_store(self) -> None:
        stores = {each.store if isinstance(each, StoredTeacher) else None for each in self.teachers.values()}
        if len(stores) > 1:
            msg = (
                "`teachers` must all be of kind `stored` with one `store`, or none of them; got several. Add "
                "the others to that store with `meddistill features add`"
            )
            raise ValueError(msg)
        if self.given_store is not None and self.features.source == "online":
            msg = "`features.source` must be stored for teachers of kind `stored`; got online"
            raise ValueError(msg)

    def _availability_fits_teachers(self) -> None:
        rules = self.features.availability
        if rules.min_teachers > len(self.teachers):
            msg = (
                f"`features.availability.min_teachers` must be at most the {len(self.teachers)} teachers of "
                f"the recipe; got {rules.min_teachers}"
            )
            raise ValueError(msg)
        named = rules.agreement_quantile
        unknown = sorted(set(named) - set(self.teachers)) if isinstance(named, Mapping) else []
        if unknown:
            near = did_you_mean(unknown[0], self.teachers)
            msg = (
                "`features.availability.agreement_quantile` must name teachers of the recipe; got "
                f"{', '.join(unknown)}{f'.{near}' if near else ''}"
            )
            raise ValueError(msg)

    def _fits_teachers(self, stage: AnyStage) -> None:
        weights = {} if stage.teacher_weights is None else {"weighting.weights": stage.teacher_weights}
        for key, values in {**weights, **stage.by_teacher}.items():
            given, known = set(values), set(self.teachers_of(stage))
            asked = known if key in weights else set(stage.weighted_teachers(known))
            wrong = [*(f"no teacher {name}" for name in sorted(given - known))]
            wrong += [f"nothing for {name}" for name in sorted(asked - given)]
            if wrong:
                rule = f"`{key}` of stage {stage.name} must name every teacher and nothing else"
                remedy = ". A weight of 0 leaves a teacher out" if key in weights else ""
                msg = f"{rule}; got {', '.join(wrong)}{remedy}"
                raise ValueError(msg)
