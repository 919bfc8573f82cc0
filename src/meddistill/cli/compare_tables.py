"""What several runs say together, as tables on a terminal."""

from rich.table import Table

from meddistill.cli.console import stdout_console
from meddistill.evaluation.statistics.stability import Spread, Stability
from meddistill.report.formatting import DASH, SEEN, number, plain_name, plural


def print_stability(found: Stability) -> None:
    """Scores over runs, how alike the runs order the models, and who beats whom how often."""
    console = stdout_console()
    console.print(f"suite {found.suite}, {plural(len(found.runs), 'run')}", markup=False)
    for table in (_spreads(found), _agreement(found), _beaten(found)):
        if table.row_count:
            console.print(table)
    if any(row.seen for row in found.spreads):
        console.print(f"{SEEN} pretrained on images of that data set", markup=False)


def _models(found: Stability) -> list[str]:
    return list(dict.fromkeys(row.model for row in found.spreads))


def _tasks(found: Stability) -> list[str]:
    return list(dict.fromkeys(row.task for row in found.spreads))


def _spreads(found: Stability) -> Table:
    models = _models(found)
    table = _table("Main metric, mean ± sd over runs (probability to rank first over patients)", "task")
    for model in models:
        table.add_column(plain_name(model), justify="right")
    rows = {(row.model, row.task): row for row in found.spreads}
    for task in _tasks(found):
        table.add_row(plain_name(task), *(_spread(rows.get((model, task))) for model in models))
    return table


def _spread(row: Spread | None) -> str:
    if row is None:
        return DASH
    first = "" if row.first is None else f"\n({row.first:.0%})"
    mark = SEEN if row.seen else ""
    return f"{number(row.mean)} ± {number(row.sd)}{mark}{first}"


def _agreement(found: Stability) -> Table:
    table = _table("How alike the runs order the models: mean (least) over pairs of runs", "task")
    for heading in ("models", "Kendall's tau", "Spearman's rho"):
        table.add_column(heading, justify="right")
    for row in found.agreement:
        if row.kendall is not None:
            kendall = f"{number(row.kendall, 2)} ({number(row.min_kendall, 2)})"
            spearman = f"{number(row.spearman, 2)} ({number(row.min_spearman, 2)})"
            table.add_row(plain_name(row.task), str(row.models), kendall, spearman)
    return table


def _beaten(found: Stability) -> Table:
    """The first model against every other one."""
    models = _models(found)
    first = models[0]
    table = _table(f"Share of runs in which {plain_name(first)} is better", "task")
    for model in models[1:]:
        table.add_column(plain_name(model), justify="right")
    shares = {(row.other, row.task): row.share for row in found.beaten if row.model == first}
    for task in _tasks(found):
        cells = [shares.get((model, task)) for model in models[1:]]
        if any(cell is not None for cell in cells):
            table.add_row(plain_name(task), *(DASH if cell is None else f"{cell:.0%}" for cell in cells))
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    return table
