"""`meddistill extract RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def extract(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Run a recipe up to its feature store."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="features")
