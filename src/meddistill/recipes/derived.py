"""The teachers of a recipe's stages: those that it names, and those that its fusion stages derive."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from meddistill.errors import did_you_mean
from meddistill.features.availability import Mask
from meddistill.fusion.network import unfusable
from meddistill.methods.base import TeacherSpace
from meddistill.recipes.schema import AnyStage, Recipe
from meddistill.teachers.card import TeacherCard


@dataclass(frozen=True, kw_only=True)
class DerivedTeacher:
    """A teacher that a fusion stage derived: its card, what it was derived from, and whether by pair."""

    card: TeacherCard
    sources: tuple[str, ...]
    by_pair: bool


def planned_spaces(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> dict[str, TeacherSpace]:
    """What is known of every teacher before anything is trained, of those to be derived too."""
    spaces = {name: TeacherSpace.of(card) for name, card in cards.items()}
    for stage in recipe.stages:
        if (dim := stage.derived_dim) is not None:
            spaces[stage.name] = TeacherSpace(image_dim=dim, text_dim=dim, logit_scale=1.0)
    return spaces


def spaces_of(recipe: Recipe, stage: AnyStage, spaces: Mapping[str, TeacherSpace]) -> dict[str, TeacherSpace]:
    """Those of a stage's teachers, without the ones that nothing is known of."""
    return {name: spaces[name] for name in recipe.teachers_of(stage) if name in spaces}


def stage_mistakes(recipe: Recipe, spaces: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for every stage whose teachers cannot be what the recipe asks for."""
    lines: list[str] = []
    for stage in recipe.stages:
        unknown = _unknown(recipe, stage)
        found = unknown or [*_rows_compared(recipe, stage), *_fusion_mistakes(recipe, stage, spaces)]
        lines += [f"stage {stage.name}: {line}" for line in found]
    if not any(stage.trains_student for stage in recipe.stages):
        lines.append("`stages` must have one at least that trains the student; got fusion alone. Add one.")
    return lines


def fused_rows(
    cards: Mapping[str, TeacherCard], available: Mapping[str, Mask], captioned: Mask, *, by_pair: bool
) -> Mask:
    """The samples of which a fused teacher has what they have: an image, and a text where they have one.

    By pair the samples with both.
    """
    image, text = np.zeros_like(captioned), np.zeros_like(captioned)
    for name, mask in available.items():
        image |= mask & (cards[name].image_dim is not None)
        text |= mask & (cards[name].text_dim is not None)
    return image & text & captioned if by_pair else image & (text | ~captioned)


def with_derived(
    masks: Mapping[str, Mask],
    cards: Mapping[str, TeacherCard],
    derived: Mapping[str, DerivedTeacher],
    captioned: Mask,
) -> dict[str, Mask]:
    """Which samples each teacher has, with those that were derived from others, in their order."""
    found, known = dict(masks), dict(cards)
    for name, each in derived.items():
        known[name] = each.card
        sources = {source: known[source] for source in each.sources}
        found[name] = fused_rows(
            sources, {source: found[source] for source in sources}, captioned, by_pair=each.by_pair
        )
    return found


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
