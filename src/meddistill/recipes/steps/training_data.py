"""The training table as a stage sees it: views as its method asks, in an order that can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass

from meddistill.data.dataset import SampleDataset, token_table
from meddistill.data.draws import draw
from meddistill.data.loader import BatchLoader, make_loader
from meddistill.data.plan import EpochPlan
from meddistill.data.samples import Samples
from meddistill.data.view_rule import ViewRule
from meddistill.errors import ConfigError
from meddistill.features.availability import Mask, availability
from meddistill.imaging import Geometry
from meddistill.recipes.schema import ContrastiveStage, EmbeddingStage, FeaturesConfig
from meddistill.recipes.session import Session
from meddistill.students.dual_encoder import DualEncoder
from meddistill.teachers.card import TeacherCard


@dataclass(frozen=True, kw_only=True)
class StageRows:
    """The samples of one stage, their content keys, and whether each teacher may be asked about each."""

    samples: Samples
    keys: tuple[str, ...]
    available: Mapping[str, Mask]


def stage_rows(session: Session, stage: ContrastiveStage | EmbeddingStage) -> StageRows:
    """Every sample; of a stage that distils those for which enough teachers are left."""
    if not isinstance(stage, EmbeddingStage):
        return StageRows(samples=session.samples, keys=session.image_keys, available={})
    found = session.availability
    return StageRows(
        samples=session.samples.take(found.kept),
        keys=tuple(session.image_keys[place] for place in found.kept),
        available=found.of_kept(),
    )


def stage_data(
    session: Session, stage: ContrastiveStage | EmbeddingStage, student: DualEncoder, rows: StageRows
) -> BatchLoader:
    """Batches of the stage's samples."""
    samples = rows.samples
    dataset = SampleDataset(
        samples,
        student=student.input.geometry,
        tokens=token_table(samples.texts or (), student.tokenise),
        views=view_rule(stage, session.recipe.features),
        teacher_geometries=_online_geometries(session, stage),
        keys=rows.keys,
    )
    plan = _plan(session, stage, rows=len(samples))
    return make_loader(dataset, plan=plan, workers=stage.workers)


def check_batches(session: Session, cards: Mapping[str, TeacherCard] | None = None) -> None:
    """Raise ConfigError with every stage whose batches do not fit the rows or the processes.

    With the `cards` of all teachers, a stage that distils has only the rows for which enough of them may be
    asked by modality and column. What agreement takes away shows once the features are there.
    """
    mistakes: list[str] = []
    samples, rules = session.samples, session.recipe.features.availability
    asked = len(availability(samples, cards, rules, store=None).kept) if cards else len(samples)
    for stage in session.recipe.stages:
        try:
            _plan(session, stage, rows=asked if isinstance(stage, EmbeddingStage) else len(samples))
        except ConfigError as error:
            mistakes += [f"stage {stage.name}: {line}" for line in error.mistakes]
    if mistakes:
        subject = "stages"
        raise ConfigError(subject, mistakes)


def _plan(session: Session, stage: ContrastiveStage | EmbeddingStage, *, rows: int) -> EpochPlan:
    try:
        return EpochPlan(
            rows=rows,
            batch_size=stage.batch_size,
            # By name as well, or two stages of one seed would go through the same views in the same order.
            seed=draw("stage", stage.name, stage.seed),
            processes=session.processes.count,
            process=session.processes.index,
        )
    except ConfigError as error:
        everything, rules = len(session.samples), session.recipe.features.availability
        if rows == everything or rows >= stage.batch_size:
            raise
        named = "`min_teachers`" if rules.agreement_quantile is None else "`min_teachers` and agreement"
        line = (
            f"`features.availability` must leave a batch of {stage.batch_size:,} rows at least; got {rows:,} "
            f"of {everything:,}, with {named}. Lower these, or `batch_size`."
        )
        raise ConfigError(error.subject, [line]) from error


def view_rule(stage: ContrastiveStage | EmbeddingStage, features: FeaturesConfig) -> ViewRule:
    """Fresh views for the student, unless it must see what the teachers saw (`views: consistent`)."""
    if isinstance(stage, EmbeddingStage) and stage.views == "consistent":
        return ViewRule(policy=features.view_policy, views=features.views, teacher="consistent")
    return ViewRule(policy=features.view_policy, views="fresh", teacher="fixed")


def _online_geometries(session: Session, stage: ContrastiveStage | EmbeddingStage) -> frozenset[Geometry]:
    if session.recipe.features.source == "stored" or not isinstance(stage, EmbeddingStage):
        return frozenset()
    inputs = (teacher.card.input for teacher in session.teachers.values())
    return frozenset(spec.geometry for spec in inputs if spec is not None)
