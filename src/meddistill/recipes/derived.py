"""The teachers of a recipe's stages: those that it names, and those that its fusion stages derive."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from meddistill.errors import StoreError, did_you_mean
from meddistill.features.availability import Mask
from meddistill.features.reader import FeatureStore
from meddistill.fusion.network import unfusable
from meddistill.methods.base import TeacherSpace
from meddistill.recipes.schema import AnyStage, Recipe
from meddistill.signals import TOWERS
from meddistill.teachers.card import TeacherCard

# Between the names of its sources on a derived teacher's card.
SOURCES_JOINED: Final = " + "


@dataclass(frozen=True, kw_only=True)
class PlannedTeacher:
    """What is known of a teacher that a fusion stage derives, what it is derived from, and if by pair."""

    space: TeacherSpace
    sources: tuple[str, ...]
    by_pair: bool


@dataclass(frozen=True, kw_only=True)
class DerivedTeacher(PlannedTeacher):
    """One that is there, with its card."""

    card: TeacherCard


def planned_teachers(recipe: Recipe) -> dict[str, PlannedTeacher]:
    """What is known of the teachers to be derived before anything is trained."""
    return {
        stage.name: PlannedTeacher(
            space=TeacherSpace(dims=dict.fromkeys(TOWERS, dim), logit_scale=1.0),
            sources=recipe.teachers_of(stage),
            by_pair=stage.by_pair,
        )
        for stage in recipe.stages
        if (dim := stage.derived_dim) is not None
    }


def planned_spaces(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> dict[str, TeacherSpace]:
    """What is known of every teacher before anything is trained, of those to be derived too."""
    derived = {name: each.space for name, each in planned_teachers(recipe).items()}
    return {**{name: TeacherSpace.of(card) for name, card in cards.items()}, **derived}


def spaces_of(recipe: Recipe, stage: AnyStage, spaces: Mapping[str, TeacherSpace]) -> dict[str, TeacherSpace]:
    """Those of a stage's teachers, without the ones that nothing is known of."""
    return {name: spaces[name] for name in recipe.teachers_of(stage) if name in spaces}


def stage_mistakes(recipe: Recipe, spaces: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for every stage whose teachers cannot be what the recipe asks for."""
    lines: list[str] = []
    for stage in recipe.stages:
        unknown = _unknown(recipe, stage)
        mistakes = unknown or [
            *_rows_compared(recipe, stage),
            *_one_view(recipe, stage),
            *_fusion_mistakes(recipe, stage, spaces),
        ]
        lines += [f"stage {stage.name}: {line}" for line in mistakes]
    if not any(stage.trains_student for stage in recipe.stages):
        lines.append("`stages` must have one at least that trains the student; got fusion alone. Add one.")
    return lines


def names_taken(recipe: Recipe, *, base: Path) -> list[str]:
    """One line for every fusion stage whose name another teacher has in the given store.

    That is one that was extracted or imported, or that was derived from others.
    """
    if recipe.given_store is None:
        return []
    try:
        store = FeatureStore.open(base / recipe.given_store)
        cards = {name: store.card(name) for name in store.teachers}
    except StoreError:
        return []  # told with the teachers, which cannot be loaded from it
    return [
        f"stage {name}: `name` must be new in `{recipe.given_store}`, or that of what it has of these "
        f"teachers; got one that {what} there. Rename the stage."
        for name, planned in planned_teachers(recipe).items()
        if name in cards and name not in recipe.teachers
        for what in _another(cards[name], planned)
    ]


def _another(card: TeacherCard, planned: PlannedTeacher) -> list[str]:
    """In words how a teacher of a store is another than the planned one, of whose sources some may go."""
    if not card.is_derived:
        return ["was extracted or imported"]
    sources = set(card.source.split(SOURCES_JOINED))
    return [] if sources <= set(planned.sources) else [f"was derived from {card.source}"]


def fused_rows(
    known: Mapping[str, TeacherCard | TeacherSpace],
    available: Mapping[str, Mask],
    captioned: Mask,
    *,
    by_pair: bool,
) -> Mask:
    """The samples of which a fused teacher has what they have: an image, and a text where they have one.

    By pair the samples with both.
    """
    image, text = np.zeros_like(captioned), np.zeros_like(captioned)
    for name, mask in available.items():
        image |= mask & ("image" in known[name].dims)
        text |= mask & ("text" in known[name].dims)
    return image & text & captioned if by_pair else image & (text | ~captioned)


def with_derived(
    masks: Mapping[str, Mask],
    cards: Mapping[str, TeacherCard],
    derived: Mapping[str, PlannedTeacher],
    captioned: Mask,
) -> dict[str, Mask]:
    """Which samples each teacher has, with those that are derived from others, in their order.

    Without those of which a source is not known.
    """
    available, known = dict(masks), {name: TeacherSpace.of(card) for name, card in cards.items()}
    for name, each in derived.items():
        if not available.keys() >= set(each.sources):
            continue
        known[name] = each.space
        sources = {source: known[source] for source in each.sources}
        available[name] = fused_rows(
            sources, {source: available[source] for source in sources}, captioned, by_pair=each.by_pair
        )
    return available


def _unknown(recipe: Recipe, stage: AnyStage) -> list[str]:
    there = (*recipe.teachers, *recipe.derived_before(stage))
    return [
        f"`teachers` must name teachers of the recipe, or derived by a fusion stage before; got {name}, and "
        f"there are {', '.join(there) or 'none'}.{did_you_mean(name, there)}"
        for name in stage.named_teachers or ()
        if name not in there
    ]


def _rows_compared(recipe: Recipe, stage: AnyStage) -> list[str]:
    by_pair = {each.name for each in recipe.stages if each.by_pair}
    return [
        f"`teachers` must not have {name} for {part}, which compares rows with one another: an embedding "
        "of a pair knows what belongs together. Name the stage's `teachers` without it, or leave the other "
        "out: it is a target for features."
        for name in recipe.teachers_of(stage)
        if name in by_pair
        for part in stage.compared_rows
    ]


def _one_view(recipe: Recipe, stage: AnyStage) -> list[str]:
    """An embedding of a pair is of its whole image, whatever view the student sees."""
    if not stage.sees_stored_views or recipe.features.views == 1:
        return []
    derived = planned_teachers(recipe)
    return [
        f"`views` must be fixed with {name}, which has one view of each pair; got consistent, and "
        f"{recipe.features.views} `features.views`. Name the stage's `teachers` without it, or use fixed."
        for name in recipe.teachers_of(stage)
        if name in derived and derived[name].by_pair
    ]


def _fusion_mistakes(recipe: Recipe, stage: AnyStage, spaces: Mapping[str, TeacherSpace]) -> list[str]:
    if stage.derived_dim is None:
        return []
    lines = []
    if stage.name in recipe.teachers:
        lines.append(
            "`name` must be new, for it names the derived teacher; a teacher has it. Rename the stage."
        )
    if recipe.features.source == "online":
        lines.append(
            "`features.source` must be stored for a fusion stage, which reads what the teachers gave; got "
            "online."
        )
    if stage.stops_after is not None and recipe.data.validation is None:
        lines.append(
            f"`patience` must have rows to look at; got {stage.stops_after}, and no `data.validation`. Name "
            "a table there, or leave it out."
        )
    named = recipe.teachers_of(stage)
    if all(name in spaces for name in named):
        lines += unfusable({name: spaces[name] for name in named})
    return lines
