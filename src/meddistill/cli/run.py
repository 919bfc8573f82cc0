"""`meddistill run RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def run(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Run a recipe, all steps; the same command goes on where an earlier one stopped."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="report")
