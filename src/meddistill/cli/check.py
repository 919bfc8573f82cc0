"""`meddistill check RECIPE`."""

from typing import TYPE_CHECKING

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions
from meddistill.signals import TOWERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from meddistill.recipes.check import StudentSize
    from meddistill.recipes.load import LoadedRecipe
    from meddistill.recipes.missing import Missing
    from meddistill.students.initial.start import Taken
    from meddistill.teachers.card import TeacherCard

SHOWN = 4


def check(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Find every mistake of a recipe at once: keys, tables, teachers, licences; estimate disk and time."""
    from pathlib import Path

    from meddistill.cli.console import stdout_console
    from meddistill.recipes.check import check_recipe
    from meddistill.recipes.parts import load_for_check
    from meddistill.report.formatting import plural

    loaded = load_for_check(recipe, overrides=options.overrides, smoke=options.smoke)
    out = options.out or Path("runs") / loaded.recipe.name
    result = check_recipe(loaded, subject=str(recipe), out=out)
    console = stdout_console()
    for title, cards in (
        ("Teachers", result.cards),
        ("For comparison only: no licence of these is inherited", result.baselines),
    ):
        if cards:
            console.print(_card_table(title, cards))
    cost, teachers = result.estimate, len(loaded.recipe.teachers)
    lines = (
        f"The recipe is in order: {cost.rows:,} rows, {plural(teachers, 'teacher')}.",
        *_student_lines(result.student),
        f"The student would inherit: {result.licence.name} (policy {loaded.recipe.licence_policy}).",
        f"Feature store: {cost.store_bytes / 1e6:,.1f} MB; free on disk: {cost.free_bytes / 1e9:,.1f} GB.",
        f"Time on this machine, without decoding: extraction {_duration(cost.extraction_seconds)}, "
        f"training {_duration(cost.training_seconds)}. Fitting projections, evaluation and export add to it.",
        *_teacher_lines(loaded, cost.teacher_seconds),
        *(f"{line[0].upper()}{line[1:]}." for line in result.row_notes),
    )
    for line in (*lines, *_missing_lines(result.missing)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _teacher_lines(loaded: "LoadedRecipe", seconds: float) -> list[str]:
    """Which teachers a run trains first; their cards are those of untrained ones."""
    if not loaded.teachers:
        return []
    return [f"Before it, the recipes of {', '.join(loaded.teachers)} are run: {_duration(seconds)}."]


def _card_table(title: str, cards: "Mapping[str, TeacherCard]") -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in ("id", "kind", "source", "input", "dims", "parameters", "licence"):
        table.add_column(heading)
    for name, card in cards.items():
        spec = card.input
        size = f"{spec.height}x{spec.width}" if spec else "-"
        dims = " / ".join(str(card.dims.get(tower, "-")) for tower in TOWERS)
        millions = f"{card.parameters / 1e6:.1f} M"
        table.add_row(name, card.kind, card.source, size, dims, millions, card.licence.name)
    return table


def _student_lines(student: "StudentSize | None") -> list[str]:
    if student is None:
        return []
    whole, words = student.model.parameters, student.vocabulary
    return [
        f"Student: {whole / 1e6:,.1f} M parameters, of which {words.parameters / 1e6:,.1f} M belong to its "
        f"vocabulary of {words.tokens:,} tokens.",
        *_initial_lines(student.taken),
        *(f"{note[0].upper()}{note[1:]}." for note in student.notes),
    ]


def _initial_lines(taken: "Taken | None") -> list[str]:
    if taken is None:
        return []
    return [
        f"Initial weights: {taken.tensors:,} tensors of {taken.source}; left in its folder: "
        f"{_some(taken.left)}; of the student's own, random: {_some(taken.fresh)}."
    ]


def _some(names: "Sequence[str]") -> str:
    more = "" if len(names) <= SHOWN else ", …"
    return f"{len(names):,} ({', '.join(names[:SHOWN])}{more})" if names else "none"


def _missing_lines(missing: "Sequence[Missing]") -> list[str]:
    if not missing:
        return []
    count = f"{len(missing)} set{'' if len(missing) == 1 else 's'} of weights"
    return [
        f"Not there yet: {count}, without which nothing runs and whose cost is not counted.",
        *map(str, missing),
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
