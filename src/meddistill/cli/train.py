"""`meddistill train RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def train(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Run a recipe up to its trained student."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="train")
