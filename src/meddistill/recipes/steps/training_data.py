"""The training table as a stage sees it: views as its method asks, in an order that can be resumed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from meddistill.data.dataset import SampleDataset, token_table
from meddistill.data.draws import draw
from meddistill.data.keys import group_ids
from meddistill.data.loader import BatchLoader, make_loader
from meddistill.data.plan import EpochPlan
from meddistill.data.samples import Samples
from meddistill.data.view_rule import ViewRule
from meddistill.errors import ConfigError
from meddistill.features.availability import Mask, availability
from meddistill.features.rows import Indices
from meddistill.imaging import Geometry
from meddistill.recipes.banks import without_bank_of_captions
from meddistill.recipes.derived import fused_rows, planned_teachers, with_derived
from meddistill.recipes.requirements import single_rows, too_many_groups, without_captions
from meddistill.recipes.schema import AnyStage, FeaturesConfig
from meddistill.recipes.session import Session
from meddistill.students.dual_encoder import DualEncoder
from meddistill.teachers.card import TeacherCard


@dataclass(frozen=True, kw_only=True)
class StageRows:
    """The samples of one stage, their content keys, its teachers, and which samples each has."""

    samples: Samples
    keys: tuple[str, ...]
    cards: Mapping[str, TeacherCard]
    available: Mapping[str, Mask]

    @property
    def groups(self) -> int:
        """How many groups of rows the stage weighs apart."""
        return len(set(self.samples.groups)) or 1


def stage_rows(session: Session, stage: AnyStage) -> StageRows:
    """The samples that have a part in the stage.

    Of a stage that distils those for which enough teachers are left, and of one whose objectives all need
    captions those that have one. Of one that fuses teachers those that it can make an embedding of.
    """
    samples, asked = session.samples, session.availability if stage.needs_teachers else None
    kept = _taking_part(stage, samples, np.arange(len(samples)) if asked is None else asked.kept)
    cards = stage_cards(session, stage)
    masks: Mapping[str, Mask] = {}
    if asked is not None:
        masks = with_derived(asked.masks, session.cards, session.derived, samples.captioned)
    available = {name: masks[name] for name in cards}
    if stage.derived_dim is not None:
        kept = kept[fused_rows(cards, available, samples.captioned, by_pair=stage.by_pair)[kept]]
    taken, column = samples.take(kept), stage.group_column
    if column is not None:
        taken = replace(taken, groups=tuple(group_ids(taken.columns[column]).tolist()))
    return StageRows(
        samples=taken,
        keys=tuple(session.image_keys[place] for place in kept),
        cards=cards,
        available={name: mask[kept] for name, mask in available.items()},
    )


def stage_cards(session: Session, stage: AnyStage) -> dict[str, TeacherCard]:
    """The cards of the stage's teachers, without those that were derived and left out."""
    derived = {name: each.card for name, each in session.derived.items()}
    cards = {**session.cards, **derived}
    named = session.recipe.teachers_of(stage)
    present = {name: cards[name] for name in named if name in cards}
    if named and not present:
        subject = f"stage {stage.name}"
        line = (
            f"`teachers` must have one at least that is there; got {', '.join(named)}, left out because its "
            "fused embeddings retrieve no better than a teacher alone. Name other teachers too, or take the "
            "stage out."
        )
        raise ConfigError(subject, [line])
    return present


def _taking_part(stage: AnyStage, samples: Samples, rows: Indices) -> Indices:
    return rows[samples.captioned[rows]] if stage.only_captioned else rows


def stage_data(session: Session, stage: AnyStage, student: DualEncoder, rows: StageRows) -> BatchLoader:
    """Batches of the stage's samples."""
    samples = rows.samples
    dataset = SampleDataset(
        samples,
        student=student.input.geometry if stage.trains_student else None,
        tokens=token_table(samples.texts, student.tokenize)
        if samples.texts is not None and stage.trains_student
        else None,
        views=view_rule(stage, session.recipe.features),
        teacher_geometries=_online_geometries(session, stage),
        keys=rows.keys,
    )
    plan = _plan(session, stage, rows=len(samples))
    return make_loader(dataset, plan=plan, workers=stage.workers)


def check_batches(
    session: Session,
    cards: Mapping[str, TeacherCard] | None = None,
    *,
    student: DualEncoder | None = None,
) -> None:
    """Raise ConfigError with every stage without the captions that it needs, with too many groups, or whose
    batches do not fit, be it the table or the `student`.

    With the `cards` of all teachers, a stage that distils has only the rows for which enough of them may be
    asked by modality and column. What agreement takes away shows once the features are there.
    """
    mistakes: list[str] = []
    samples, rules = session.samples, session.recipe.features.availability
    everything = np.arange(len(samples))
    asked = availability(samples, cards, rules, store=None) if cards else None
    derived: Mapping[str, Mask] = {}
    if asked is not None and cards:
        derived = with_derived(asked.masks, cards, planned_teachers(session.recipe), samples.captioned)
    for stage in session.recipe.stages:
        rows = everything if asked is None or not stage.needs_teachers else asked.kept
        if stage.derived_dim is not None and stage.name in derived:
            rows = rows[derived[stage.name][rows]]
        lines = without_bank_of_captions(stage, samples)
        lines += without_captions(stage, captions=int(samples.captioned[rows].sum()), rows=len(rows))
        try:
            _ = lines or _plan(session, stage, rows=len(_taking_part(stage, samples, rows)))
        except ConfigError as error:
            lines = [*error.mistakes]
        lines += too_many_groups(stage, samples)
        if student is not None and student.has_batch_statistics:
            lines += single_rows(stage, processes=session.processes.count)
        mistakes += [f"stage {stage.name}: {line}" for line in lines]
    ConfigError.raise_any("stages", mistakes)


def _plan(session: Session, stage: AnyStage, *, rows: int) -> EpochPlan:
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
        if rows == len(session.samples) or rows >= stage.batch_size:
            raise
        raise ConfigError(error.subject, [_too_few(session, stage, rows)]) from error


def _too_few(session: Session, stage: AnyStage, rows: int) -> str:
    """Why fewer rows than a batch are left of a table that has more."""
    captions, everything = len(session.samples.captions), len(session.samples)
    if stage.only_captioned and captions < stage.batch_size:
        return (
            f"`data.train.text` must hold captions for a batch of {stage.batch_size:,} rows at least, since "
            f"all objectives of the stage need them; got {captions:,} of {everything:,}. Add captions, or "
            "lower `batch_size`."
        )
    rules = session.recipe.features.availability
    named = "`min_teachers`" if rules.agreement_quantile is None else "`min_teachers` and agreement"
    return (
        f"`features.availability` must leave a batch of {stage.batch_size:,} rows at least; got {rows:,} "
        f"of {everything:,}, with {named}. Lower these, or `batch_size`."
    )


def view_rule(stage: AnyStage, features: FeaturesConfig) -> ViewRule:
    """Fresh views for the student, unless it must see what the teachers saw (`views: consistent`)."""
    if not stage.trains_student:
        return ViewRule()
    if stage.sees_stored_views:
        return ViewRule(policy=features.view_policy, views=features.views, teacher="consistent")
    return ViewRule(policy=features.view_policy, views="fresh", teacher="fixed")


def _online_geometries(session: Session, stage: AnyStage) -> frozenset[Geometry]:
    if session.recipe.features.source == "stored" or not stage.needs_teachers:
        return frozenset()
    inputs = (card.input for card in stage_cards(session, stage).values())
    return frozenset(spec.geometry for spec in inputs if spec is not None)
