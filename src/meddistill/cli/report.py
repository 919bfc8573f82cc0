"""`meddistill report RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def report(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Write the report of a recipe again, after whatever steps are missing."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="report", again=("report",))
