"""The recipe: a lab record in YAML, strict in its keys. Loads no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from meddistill.bundle.config import BundleConfig
from meddistill.data.config import TrainingTableConfig
from meddistill.errors import did_you_mean
from meddistill.features.config import AvailabilityConfig, ExtractOptions
from meddistill.licences import LicenceTerms, Policy, resolve
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
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
    licences: Mapping[str, str | LicenceTerms] = {}
    """Data set → a known licence or terms; the student inherits them."""

    @property
    def terms(self) -> dict[str, LicenceTerms]:
        """The licences of the data as terms."""
        return {name: resolve(licence) for name, licence in self.licences.items()}


class FeaturesConfig(ExtractOptions):
    """How teachers' outputs reach the student."""

    source: Literal["stored", "online"] = "stored"
    """`stored`: teachers are asked once, into the run's feature store. `online`: in every step,
    which waits for them.
    """
    availability: AvailabilityConfig = AvailabilityConfig()
    """Which teachers may be asked about which rows, besides the teachers' own `modalities`."""

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

    name: Name
    """Names the stage's folder `stages/<name>/`."""


AnyStage = ContrastiveStage | EmbeddingStage
StageConfig = Annotated[AnyStage, Field(discriminator="method")]


class EvaluateConfig(StrictSettings):
    """What the student, its teachers and other models are judged on."""

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
    """What student and teachers are judged on; without it they are not."""
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
        if stage.teacher_weights is None:
            return
        given, known = set(stage.teacher_weights), set(self.teachers)
        wrong = [*(f"no teacher {name}" for name in sorted(given - known))]
        wrong += [f"nothing for {name}" for name in sorted(known - given)]
        if wrong:
            rule = f"`weighting.weights` of stage {stage.name} must name every teacher and nothing else"
            msg = f"{rule}; got {', '.join(wrong)}. A weight of 0 leaves a teacher out"
            raise ValueError(msg)
