"""Whether the student's text tower means anything once the stages are done."""

from collections.abc import Collection, Mapping
from typing import Final

from meddistill.data.samples import Samples
from meddistill.methods.base import TeacherSpace
from meddistill.recipes.derived import planned_spaces, spaces_of
from meddistill.recipes.schema import AnyStage, Recipe
from meddistill.students.initial.start import Taken
from meddistill.teachers.card import TeacherCard

_TEXT: Final = "text."
UNTRAINED: Final = (
    "the student's text tower starts from no weights and no stage trains it: tasks that need text are left "
    "out for the student, and its bundle embeds images alone"
)


def text_is_trained(
    recipe: Recipe,
    samples: Samples,
    *,
    cards: Mapping[str, TeacherCard],
    taken: Taken | None,
    without: Collection[str] = (),
) -> bool:
    """Whether it starts from weights, or a stage has captions for it to learn from.

    A stage has where an objective that compares the student's texts needs captions, or where a teacher embeds
    texts for one; `cards` are those of the recipe's teachers, `taken` what the student starts from,
    `without` the derived teachers that were left out.
    """
    if taken is not None and not any(name.startswith(_TEXT) for name in taken.fresh):
        return True
    planned = planned_spaces(recipe, cards)
    spaces = {name: space for name, space in planned.items() if name not in without}
    return bool(samples.captioned.any()) and any(
        _trains(stage, spaces_of(recipe, stage, spaces)) for stage in recipe.stages if stage.trains_student
    )


def _trains(stage: AnyStage, spaces: Mapping[str, TeacherSpace]) -> bool:
    comparing = [options for options in stage.chosen.values() if "text" in options.trains]
    return any(options.needs_captions or _reads(stage, spaces) for options in comparing)


def _reads(stage: AnyStage, spaces: Mapping[str, TeacherSpace]) -> bool:
    """Whether a teacher that the stage gives a weight embeds texts."""
    return any("text" in spaces[name].towers for name in stage.weighted_teachers(spaces))
