"""`meddistill export RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def export(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Run a recipe up to its exported bundle."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="export")
