"""The scores of a run as a small table for the terminal."""

from dataclasses import dataclass

from meddistill.evaluation.base.results import MEAN_TASK, Result, Results
from meddistill.report.formatting import SEEN
from meddistill.report.vqa import FAMILIES, coverage


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Main metric of every model on every task, as text; the first cell of a row is the task.

    `notes` are what a reader must know beside the numbers: what can be answered at all, and warnings.
    """

    title: str
    caption: str
    models: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def table_of(results: Results, *, with_intervals: bool = False) -> ScoreTable:
    """Main metric of every model on every task, with its interval where asked for."""
    models = tuple(model.name for model in results.models)
    tasks = [task.name for task in results.tasks]
    if any(results.main(model, MEAN_TASK) for model in models):
        tasks.append(MEAN_TASK)

    def cell(model: str, task: str) -> str:
        mark = SEEN if results.seen(model, task) else ""
        return _cell(results.main(model, task), with_interval=with_intervals) + mark

    cells = tuple((task, *(cell(model, task) for model in models)) for task in tasks)
    seen = any(SEEN in each for row in cells for each in row[1:])
    level = f"; in brackets {results.level:.0%} intervals over patients"
    return ScoreTable(
        title=f"{results.suite}: {'all models' if with_intervals else 'student and teachers'}",
        caption=f"Main metric of each task{level if with_intervals else '; the report has the intervals'}."
        + (f" {SEEN} pretrained on images of that data set." if seen else ""),
        models=models,
        rows=cells,
        notes=(*_coverage(results), *results.warnings),
    )


def _coverage(results: Results) -> list[str]:
    """How many of the test questions can be answered at all, of every task that asks some."""
    return [f"{task.name}: {coverage(task)}" for task in results.tasks if task.family in FAMILIES]


def _cell(result: Result | None, *, with_interval: bool) -> str:
    if result is None or result.value is None:
        return "-"
    if not with_interval or result.low is None or result.high is None:
        return f"{result.value:.3f}"
    return f"{result.value:.3f} [{result.low:.3f}, {result.high:.3f}]"
