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
    return table_of(Results.load(folder.evaluation))


def table_of(results: Results, *, with_intervals: bool = False) -> ScoreTable:
    """Main metric of every model on every task, with its interval where asked for."""
    models = tuple(model.name for model in results.models)
    tasks = [task.name for task in results.tasks]
    if any(results.main(model, MEAN_TASK) for model in models):
        tasks.append(MEAN_TASK)

    def cell(model: str, task: str) -> str:
        return _cell(results.main(model, task), with_interval=with_intervals)

    level = f"; in brackets {results.level:.0%} intervals over patients"
    return ScoreTable(
        title=f"{results.suite}: {'all models' if with_intervals else 'student and teachers'}",
        caption=f"Main metric of each task{level if with_intervals else '; the report has the intervals'}.",
        models=models,
        rows=tuple((task, *(cell(model, task) for model in models)) for task in tasks),
    )


def _cell(result: Result | None, *, with_interval: bool) -> str:
    if result is None or result.value is None:
        return "-"
    if not with_interval or result.low is None or result.high is None:
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"
