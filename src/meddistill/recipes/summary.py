"""The scores of a run as a small table for the terminal."""

from dataclasses import dataclass

from meddistill.evaluation.results import MEAN_TASK, RESULTS_FILE, Result, Results
from meddistill.recipes.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Main metric of every model on every task, as text; the first cell of a row is the task."""

    title: str
    caption: str
    models: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def score_table(folder: RunFolder) -> ScoreTable | None:
    """The table of a run that has been evaluated; None otherwise."""
    if not (folder.evaluation / RESULTS_FILE).is_file():
        return None
    results = Results.load(folder.evaluation)
    models = tuple(model.name for model in results.models)
    tasks = [task.name for task in results.tasks]
    if any(results.main(model, MEAN_TASK) for model in models):
        tasks.append(MEAN_TASK)
    rows = tuple((task, *(_cell(results.main(model, task)) for model in models)) for task in tasks)
    return ScoreTable(
        title=f"{results.suite}: student and teachers",
        caption="Main metric of each task; the report has the intervals.",
        models=models,
        rows=rows,
    )


def _cell(result: Result | None) -> str:
    return "-" if result is None or result.value is None else f"{result.value:.3f}"
