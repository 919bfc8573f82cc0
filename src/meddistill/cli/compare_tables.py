"""What several runs say together, as tables on a terminal."""

from rich.table import Table

from meddistill.cli.console import stdout_console
from meddistill.evaluation.statistics.stability import Spread, Stability
from meddistill.report.formatting import DASH, SEEN, number, plain_name, plural


def print_stability(summary: Stability) -> None:
    """Scores over runs, how alike the runs order the models, and who beats whom how often."""
    console = stdout_console()
    console.print(f"suite {summary.suite}, {plural(len(summary.runs), 'run')}", markup=False)
    for table in (_spreads(summary), _agreement(summary), _beaten(summary)):
        if table.row_count:
            console.print(table)
    if any(row.seen for row in summary.spreads):
        console.print(f"{SEEN} pretrained on images of that data set", markup=False)


def _models(summary: Stability) -> list[str]:
    return list(dict.fromkeys(row.model for row in summary.spreads))


def _tasks(summary: Stability) -> list[str]:
    return list(dict.fromkeys(row.task for row in summary.spreads))


def _spreads(summary: Stability) -> Table:
    models = _models(summary)
    table = _table("Main metric, mean ± sd over runs (probability to rank first over patients)", "task")
    for model in models:
        table.add_column(plain_name(model), justify="right")
    rows = {(row.model, row.task): row for row in summary.spreads}
    for task in _tasks(summary):
        table.add_row(plain_name(task), *(_spread(rows.get((model, task))) for model in models))
    return table


def _spread(row: Spread | None) -> str:
    if row is None:
        return DASH
    first = "" if row.first is None else f"\n({row.first:.0%})"
    mark = SEEN if row.seen else ""
    return f"{number(row.mean)} ± {number(row.sd)}{mark}{first}"


def _agreement(summary: Stability) -> Table:
    table = _table("How alike the runs order the models: mean (least) over pairs of runs", "task")
    for heading in ("models", "Kendall's tau", "Spearman's rho"):
        table.add_column(heading, justify="right")
    for row in summary.agreement:
        if row.kendall is not None:
            kendall = f"{number(row.kendall, 2)} ({number(row.min_kendall, 2)})"
            spearman = f"{number(row.spearman, 2)} ({number(row.min_spearman, 2)})"
            table.add_row(plain_name(row.task), str(row.models), kendall, spearman)
    return table


def _beaten(summary: Stability) -> Table:
    """The first model against every other one."""
    models = _models(summary)
    first = models[0]
    table = _table(f"Share of runs in which {plain_name(first)} is better", "task")
    for model in models[1:]:
        table.add_column(plain_name(model), justify="right")
    shares = {(row.other, row.task): row.share for row in summary.beaten if row.model == first}
    for task in _tasks(summary):
        cells = [shares.get((model, task)) for model in models[1:]]
        if any(cell is not None for cell in cells):
            table.add_row(plain_name(task), *(DASH if cell is None else f"{cell:.0%}" for cell in cells))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    return table
