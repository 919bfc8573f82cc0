"""Results of several seeds as Markdown tables."""

import statistics
from collections.abc import Callable, Sequence

from meddistill.evaluation.base.results import MEAN_TASK, Difference, Result, Results


def overview(runs: Sequence[Results]) -> str:
    """Every model's mean over tasks and the student's lead over it: mean over seeds, SD, the intervals."""
    first = runs[0]
    header = ["model", "role", "mean over tasks", "SD", "95% interval of each seed", "student minus it", "SD"]
    rows = []
    for model in first.models:
        scores = [_score(run.main(model.name, MEAN_TASK)) for run in runs]
        gaps = [run.difference(first.named("student")[0], model.name, MEAN_TASK) for run in runs]
        rows.append([model.name, model.role, *_scores(scores), *_gaps(gaps)])
    return table([*header, "95% interval of each seed"], rows)


def by_task(runs: Sequence[Results]) -> str:
    """Main metric of every model on every task, mean over seeds."""
    first = runs[0]
    names = [model.name for model in first.models]
    rows = []
    for task in first.tasks:
        cells = []
        for name in names:
            found = [run.main(name, task.name) for run in runs]
            values = [row.value for row in found if row is not None and row.value is not None]
            cells.append(f"{statistics.mean(values):.3f}" if values else "–")
        title = task.name if task.include_in_mean else f"{task.name} (not in the mean)"
        rows.append([title, str(task.n), str(task.patients), *cells])
    return table(["task", "rows", "patients", *names], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _score(row: Result | None) -> Result:
    if row is None or row.value is None:
        msg = f"every model must have a mean over tasks; got {row}."
        raise ValueError(msg)
    return row


def _scores(rows: Sequence[Result]) -> list[str]:
    values = [row.value or 0.0 for row in rows]
    return [f"{statistics.mean(values):.3f}", _spread(values), _intervals(rows, "{:.3f}".format)]


def _gaps(rows: Sequence[Difference | None]) -> list[str]:
    found = [row for row in rows if row is not None]
    if not found:
        return ["", "", ""]
    values = [row.value for row in found]
    return [f"{statistics.mean(values):+.3f}", _spread(values), _intervals(found, "{:+.3f}".format)]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.stdev(values):.3f}" if len(values) > 1 else "–"


def _intervals(rows: Sequence[Result] | Sequence[Difference], words: Callable[[float], str]) -> str:
    """One interval where all are the same (frozen models), else one for each seed."""
    found = [
        f"{words(row.low)} to {words(row.high)}"
        for row in rows
        if row.low is not None and row.high is not None
    ]
    return "; ".join(dict.fromkeys(found))
