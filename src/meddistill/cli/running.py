"""What the verbs that run a recipe share: load it, run it, print what came of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from meddistill.cli.console import stdout_console
from meddistill.cli.options import RunOptions
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import Step, run_recipe
from meddistill.recipes.session import Session
from meddistill.recipes.summary import ScoreTable, table_of


def run_until(
    recipe: Path,
    options: RunOptions,
    *,
    until: Step,
    again: Sequence[Step] = (),
    base: Path | None = None,
    command: str | None = None,
) -> Session:
    """Run `recipe` up to and including `until`, then print the paths and, if there is one, the table.

    `command` repeats the run, by default `run` with the same options; the report shows it.
    """
    loaded = load_recipe(recipe, overrides=options.overrides, smoke=options.smoke, base=base)
    loaded = dataclasses.replace(loaded, command=command or options.repeating(recipe))
    out = options.out or Path("runs") / loaded.recipe.name
    session = run_recipe(loaded, out, until=until, again=again, progress=options.progress())
    if session.is_main_process:
        print_outcome(session)
    session.processes.leave()
    return session


def print_outcome(session: Session) -> None:
    """The scores beside the teachers', of a run that evaluates, and where the files are, on stdout."""
    console = stdout_console()
    if session.results is not None:
        print_scores(table_of(session.results))
    for label, path in session.folder.results():
        console.print(f"{label + ':':<12} {path}", markup=False, highlight=False, soft_wrap=True)


def print_scores(scores: ScoreTable) -> None:
    """The scores, and below them what must be known beside them, on stdout."""
    console = stdout_console()
    console.print(rich_table(scores))
    for note in scores.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def rich_table(scores: ScoreTable) -> Table:
    """The scores for a terminal."""
    table = Table(title=scores.title, title_justify="left", caption=scores.caption, caption_justify="left")
    table.add_column("task", no_wrap=True)
    for model in scores.models:
        table.add_column(model.replace("_", "_\n"), justify="right")  # long names would be cut anywhere
    for row in scores.rows:
        table.add_row(*row)
    return table
