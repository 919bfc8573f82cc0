"""Whether the teachers can do what the stages ask of them."""

from collections.abc import Mapping

from meddistill.data.samples import Samples
from meddistill.features.availability import column_mistakes, has_agreement
from meddistill.methods.base import TeacherSpace
from meddistill.methods.build import unmet_by_teachers
from meddistill.recipes.schema import AnyStage, Recipe
from meddistill.teachers.card import TeacherCard


def unmet_requirements(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> list[str]:
    """One line for everything that an objective of a stage needs and a teacher does not have."""
    spaces = {name: TeacherSpace.of(card) for name, card in cards.items()}
    lines = [
        f"stage {stage.name}: {line}" for stage in recipe.stages for line in unmet_by_teachers(stage, spaces)
    ]
    if recipe.features.source == "online":
        lines += [
            f"stage {stage.name}: `objectives.{name}.features` must be normalized for teachers that are "
            "asked online, of which there are no statistics. Use `source: stored`, or leave it out."
            for stage in recipe.stages
            for name in stage.needs_statistics
        ]
        lines += [
            f"stage {stage.name}: `projection` must be learned_head for teachers that are asked online; "
            f"the others are fitted from a feature store; got {projection.kind}. Use `source: stored`."
            for stage in recipe.stages
            if (projection := stage.fitted_projection) is not None
        ]
    return lines + _without_agreement(recipe, cards)


def of_unit_length(recipe: Recipe) -> tuple[str, ...]:
    """One line for every stage whose default is another for teachers that are asked online."""
    if recipe.features.source == "stored":
        return ()
    return tuple(
        f"stage {stage.name}: {name} compares vectors of unit length, since there are no "
        "statistics of teachers that are asked online; with `source: stored` it compares whitened ones"
        for stage in recipe.stages
        for name in stage.prefers_statistics
    )


def _without_agreement(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> list[str]:
    asked = recipe.features.availability.agreement_quantile
    return [
        f"teacher `{name}` must have image and text embeddings of one dim for `agreement_quantile`; got "
        f"{card.image_dim} and {card.text_dim}. Leave it out of `features.availability.agreement_quantile`."
        for name, card in cards.items()
        if isinstance(asked, Mapping) and name in asked and not has_agreement(card)
    ]


def unused_teachers(recipe: Recipe, samples: Samples) -> list[str]:
    """One line for every teacher whose rules no row of the training table can meet, and for unknown teachers.

    A row without a modality counts as known to everybody.
    """
    return _without_modality(recipe, samples) + column_mistakes(
        samples, recipe.teachers, recipe.features.availability
    )


def _without_modality(recipe: Recipe, samples: Samples) -> list[str]:
    if recipe.data.train.modality is None:
        return [
            f"teacher `{name}`: `modalities` must have a column to be compared with; `data.train` names no "
            "`modality`. Name the column, or leave `modalities` out."
            for name, config in recipe.teachers.items()
            if config.modalities is not None
        ]
    there = set(samples.modalities)
    if "" in there:
        return []
    return [
        f"teacher `{name}`: `modalities` must name one at least that occurs in the training table; got "
        f"{', '.join(config.modalities)}. The table has {', '.join(sorted(there))}."
        for name, config in recipe.teachers.items()
        if config.modalities is not None and there.isdisjoint(config.modalities)
    ]


def without_captions(stage: AnyStage, *, captions: int, rows: int) -> list[str]:
    """One line for everything in a stage that needs captions, where its `rows` have none."""
    if captions:
        return []
    return [
        f"{part} must have captions; got {rows:,} rows without any. Name the column of captions in "
        f"`data.train.text`, or leave {'the stage' if stage.only_captioned else part} out."
        for part in stage.needs_captions
    ]
