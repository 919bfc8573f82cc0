"""`meddistill evaluate RECIPE` and `meddistill evaluate MODEL… --suite SUITE`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from meddistill.cli.options import DEFAULT_RUN, RunOptions
from meddistill.errors import ConfigError

Models = Annotated[
    str,
    Parameter(
        help="A recipe; or, with --suite, any number of models: a run folder, a student's folder, a bundle, "
        "an open_clip folder, hf-hub:ID, local-dir:FOLDER, or a YAML file with `teachers:` as a recipe has "
        "them. NAME=MODEL gives a model another name."
    ),
]
Suite = Annotated[Path | None, Parameter(help="The suite, a YAML file; its paths start at its folder.")]
Student = Annotated[
    str | None,
    Parameter(help="Name of the model that all others are compared with. Without it: the first."),
]
Examples = Annotated[
    bool,
    Parameter(negative="", help="The report shows images, captions, questions and outlines."),
]


def evaluate(
    *models: Models,
    suite: Suite = None,
    student: Student = None,
    examples: Examples = False,
    options: RunOptions = DEFAULT_RUN,
) -> None:
    """Run a recipe up to the evaluation of student and teachers; or evaluate any models on a suite.

    With --suite, results.json, predictions and report.html go to --out, by default evaluations/SUITE.
    """
    if suite is None:
        _run_recipe(models, options, only_with_suite={"--student": student, "--examples": examples})
        return
    if options.overrides or options.smoke:
        rule = "`--set` and `--smoke` must be left out with `--suite`: they change recipes. Change the suite."
        raise ConfigError(_SUBJECT, [rule])
    from meddistill.standalone.request import parse_request

    question = parse_request(
        models, suite, student=student
    )  # before seconds are spent on libraries of models
    from meddistill.cli.console import stdout_console
    from meddistill.cli.running import print_scores
    from meddistill.evaluation.base.results import RESULTS_FILE
    from meddistill.recipes.summary import table_of
    from meddistill.standalone.evaluate import REPORT_FILE, evaluate_models

    results, folder = evaluate_models(
        question, out=options.out, examples=examples, progress=options.progress()
    )
    print_scores(table_of(results, with_intervals=True))
    console = stdout_console()
    for label, path in (("results", folder / RESULTS_FILE), ("report", folder / REPORT_FILE)):
        console.print(f"{label + ':':<12} {path}", markup=False, highlight=False, soft_wrap=True)


_SUBJECT = "evaluate"


def _run_recipe(models: tuple[str, ...], options: RunOptions, *, only_with_suite: dict[str, object]) -> None:
    mistakes = [f"`{name}` must come with `--suite`." for name, given in only_with_suite.items() if given]
    if len(models) != 1:
        got = ", ".join(models) or "none"
        mistakes.append(f"one recipe must be given, or models with `--suite`; got {got}.")
    elif Path(models[0]).is_dir() or models[0].startswith(("hf-hub:", "local-dir:")):
        mistakes.append(f"`--suite` must name what {models[0]} is evaluated on; got none.")
    if mistakes:
        raise ConfigError(_SUBJECT, mistakes)
    from meddistill.cli.running import run_until

    run_until(Path(models[0]), options, until="evaluate")
