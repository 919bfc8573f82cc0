"""`meddistill evaluate RECIPE`."""

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions


def evaluate(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Run a recipe up to the evaluation of student and teachers."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="evaluate")
