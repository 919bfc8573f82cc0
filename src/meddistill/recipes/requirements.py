"""Whether the teachers can do what the stages ask of them."""

from collections.abc import Mapping
from typing import Final

from meddistill.data.samples import Samples
from meddistill.features.availability import column_mistakes, has_agreement
from meddistill.methods.build import unmet_by_teachers
from meddistill.recipes.derived import planned_spaces, spaces_of, stage_mistakes
from meddistill.recipes.schema import AnyStage, Recipe
from meddistill.teachers.card import TeacherCard

_MOST_GROUPS: Final = 64


def unmet_requirements(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> list[str]:
    """One line for everything that a stage needs and its teachers do not have."""
    spaces = planned_spaces(recipe, cards)
    lines = stage_mistakes(recipe, spaces)
    lines += [
        f"stage {stage.name}: {line}"
        for stage in recipe.stages
        for line in unmet_by_teachers(stage, spaces_of(recipe, stage, spaces))
    ]
    lines += [
        f"stage {stage.name}: {line}"
        for stage in recipe.stages
        if stage.needs_teachers
        for line in stage.too_few_teachers(recipe.teachers_of(stage))
    ]
    if recipe.features.source == "online":
        lines += [
            f"stage {stage.name}: `objectives.{name}` must do without statistics for teachers that "
            "run online, of which there are none. Use `source: stored`, or "
            f"{stage.chosen[name].remedy('statistics')}."
            for stage in recipe.stages
            for name in stage.needs_statistics
        ]
        lines += [
            f"stage {stage.name}: `projection` must be learned_head for teachers that run online; "
            f"the others are fitted from a feature store; got {projection.kind}. Use `source: stored`."
            for stage in recipe.stages
            if (projection := stage.fitted_projection) is not None
        ]
    return lines + _without_agreement(recipe, cards)


def of_unit_length(recipe: Recipe) -> tuple[str, ...]:
    """One line for every stage whose default is another for teachers that run online."""
    if recipe.features.source == "stored":
        return ()
    return tuple(
        f"stage {stage.name}: {name} compares vectors of unit length, since there are no "
        "statistics of teachers that run online; with `source: stored` it compares whitened ones"
        for stage in recipe.stages
        for name in stage.prefers_statistics
    )


def _without_agreement(recipe: Recipe, cards: Mapping[str, TeacherCard]) -> list[str]:
    asked = recipe.features.availability.agreement_quantile
    return [
        f"teacher `{name}` must have image and text embeddings of one dim for `agreement_quantile`; got "
        f"{card.dims.get('image')} and {card.dims.get('text')}. Leave it out of "
        "`features.availability.agreement_quantile`."
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


def single_rows(stage: AnyStage, *, processes: int) -> list[str]:
    """One line where a forward pass of the stage has a single row, which has no batch statistics."""
    share = stage.batch_size // processes
    if not stage.trains_student or share < 1 or _rows_of_last_pass(share, stage.micro_batch) > 1:
        return []
    rule = "rows or more in every forward pass of a student with batch normalisation"
    if share == 1:
        return [f"`batch_size` must leave two {rule}; got {stage.batch_size}. Raise it."]
    fitting = [size for size in range(2, share + 1) if _rows_of_last_pass(share, size) > 1]
    near = min(fitting, key=lambda size: abs(size - (stage.micro_batch or share)))
    return [
        f"`micro_batch` must leave two {rule}; got {stage.micro_batch} for the {share:,} rows of a process. "
        f"Set {near}, or leave it out."
    ]


def _rows_of_last_pass(share: int, size: int | None) -> int:
    return share if size is None else share % size or min(share, size)


def too_many_groups(stage: AnyStage, samples: Samples) -> list[str]:
    """One line where the stage weighs rows apart by a column that tells nearly every row apart."""
    column = stage.group_column
    if column is None:
        return []
    values = len(set(samples.columns[column]))
    if values <= _MOST_GROUPS:
        return []
    return [
        f"`weighting.by` must name a column of at most {_MOST_GROUPS} values; got {values:,} in `{column}`. "
        "Name a column of few values, or leave `by` out."
    ]
