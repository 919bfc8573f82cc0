"""The command line: a table of verbs, one file each, loaded when called.

Exit codes: 0 done; 1 our mistake; 2 the user's mistake, one message and no traceback; 130 interrupted; 141
nobody reads the output any more.
"""

import io
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from meddistill import __version__
from meddistill.cli.exit_codes import guarded

VERBS = {
    "demo": "Everything at once on procedural images: teachers, student, evaluation, bundle, report.",
    "run": "Run a recipe, all steps; goes on where it stopped.",
    "check": "Find every mistake of a recipe and estimate its cost; runs nothing.",
    "extract": "Run a recipe up to its feature store.",
    "train": "Run a recipe up to its trained student.",
    "evaluate": "Evaluate any models on a suite; or run a recipe up to its evaluation.",
    "compare": "How far results depend on the seed: several runs of one suite.",
    "export": "Run a recipe up to its exported bundle.",
    "report": "Run a recipe up to its report, or write the report again.",
    "classify": "Classify images with a bundle; needs no torch.",
    "embed": "Embed images or texts with a bundle; needs no torch.",
}


def build_app() -> App:
    """The command line application; verbs are imported only when they are called."""
    app = App(
        name="meddistill",
        help="Distil many frozen medical foundation models into one small model.",
        version=__version__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
        result_action="return_none",
    )
    for place, (verb, summary) in enumerate(VERBS.items()):
        app.command(f"meddistill.cli.{verb}:{verb}", name=verb, help=summary, sort_key=place)
    features = App(name="features", help="Look after a feature store.")
    features.command("meddistill.cli.features:verify", name="verify", help="Check every hash of a store.")
    features.command("meddistill.cli.features:stats", name="stats", help="What a store holds.")
    features.command("meddistill.cli.features:audit", name="audit", help="Compare the teachers of a store.")
    features.command(
        "meddistill.cli.features:import_published", name="import", help="Make a store of published features."
    )
    features.command("meddistill.cli.features:add", name="add", help="Add a recipe's teachers and rows.")
    app.command(features)
    teachers = App(name="teachers", help="The known medical teachers.")
    teachers.command("meddistill.cli.teachers:list_teachers", name="list", help="All known teachers.")
    teachers.command("meddistill.cli.teachers:show", name="show", help="One teacher's card.")
    app.command(teachers)
    datasets = App(name="datasets", help="Known public data sets, from a copy on this disk to a suite.")
    datasets.command("meddistill.cli.datasets:list_sets", name="list", help="All known data sets.")
    datasets.command("meddistill.cli.datasets:show", name="show", help="One data set: terms and layout.")
    datasets.command("meddistill.cli.datasets:prepare", name="prepare", help="Write tables and a suite.")
    datasets.command("meddistill.cli.datasets:join", name="join", help="One suite of several sets.")
    app.command(datasets)
    slides = App(name="slides", help="Whole-slide images.")
    slides.command("meddistill.cli.slides:tile", name="tile", help="Cut the tissue of slides into tiles.")
    app.command(slides)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _print_any_name()
    app = build_app()
    tokens = list(sys.argv[1:] if arguments is None else arguments)

    def call() -> None:
        app(tokens, exit_on_error=False, print_error=False)

    return guarded(call, usage_error=CycloptsError)


def _print_any_name() -> None:
    """File names that are no UTF-8, as old archives have them, are printed with the escapes of JSON."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


__all__ = ["VERBS", "build_app", "main"]
