"""An audit as tables on a terminal."""

from pathlib import Path

from rich.table import Table

from meddistill.cli.console import stdout_console
from meddistill.evaluation.audit.record import ENSEMBLE, Audit, AuditScore, Family, LeaveOut
from meddistill.report.formatting import between, number, signed, signed_between
from meddistill.signals import Tower

_FAMILIES: tuple[tuple[Family, str], ...] = (
    ("retrieval", "mean recall"),
    ("zero_shot", "zero-shot"),
    ("modality", "modality"),
)
_TOWERS: tuple[tuple[Tower, str], ...] = (("image", "images"), ("text", "texts"))


def print_audit(audit: Audit, path: Path) -> None:
    """Scores, likeness and the order of dropping; then where the file is."""
    console = stdout_console()
    rows, held = audit.rows, audit.held
    console.print(
        f"{rows['images']:,} of {held['images']:,} images, {rows['texts']:,} of {held['texts']:,} texts, "
        f"seed {audit.seed}"
    )
    for table in (_scores(audit), *(_likeness(audit, *tower) for tower in _TOWERS), _order(audit)):
        if table is not None and table.row_count:
            console.print(table)
    for note in audit.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"audit: {path}", markup=False, highlight=False, soft_wrap=True)


def _scores(audit: Audit) -> Table:
    table = _table(f"Each teacher alone ({audit.level:.0%} interval over images)", "group", "score", "chance")
    names = [row.name for row in audit.teachers]
    for name in (*names, ENSEMBLE):
        table.add_column(name, justify="right")
    scores = {(row.teacher, row.family, row.modality): row for row in (*audit.scores, *audit.ensemble)}
    for family, words in _FAMILIES:
        for modality in ("", *audit.modalities):
            cells = [scores.get((name, family, modality)) for name in (*names, ENSEMBLE)]
            known = [cell for cell in cells if cell is not None]
            if known:
                chance = number(min(cell.chance for cell in known), 2)
                table.add_row(modality or "all", words, chance, *(_cell(cell) for cell in cells))
    return table


def _cell(score: AuditScore | None) -> str:
    if score is None:
        return "–"
    return f"{number(score.value)}\n{between(score.low, score.high, 2)}\nn = {score.images:,}"


def _likeness(audit: Audit, tower: Tower, words: str) -> Table | None:
    names = [row.name for row in audit.teachers if tower in row.dims]
    if len(names) < 2:
        return None
    table = _table(f"Likeness on {words}: CKA / common neighbours", "teacher", *names)
    redundancy = {row.teacher: row for row in audit.redundancy if row.tower == tower}
    table.add_column("explained by all others", justify="right")
    for name in names:
        row = redundancy.get(name)
        cells = [_pair(audit, name, other, tower) for other in names]
        table.add_row(name, *cells, number(row.explained, 2) if row else "–")
    return table


def _pair(audit: Audit, first: str, second: str, tower: Tower) -> str:
    likeness = audit.alike(first, second, tower)
    return "–" if likeness is None else f"{number(likeness.cka, 2)} / {number(likeness.neighbours, 2)}"


def _order(audit: Audit) -> Table | None:
    if len(audit.order) < 2:
        return None
    table = _table(
        "Which teacher to drop first",
        *("place", "teacher", "ensemble loses", "redundancy", "nearest teacher", "among"),
    )
    for place, row in enumerate(audit.order, 1):
        table.add_row(
            str(place), row.teacher, _loss(row), number(row.redundancy, 2), row.nearest or "–", str(row.of)
        )
    return table


def _loss(row: LeaveOut) -> str:
    if row.loss is None:
        return "–"
    return f"{signed(row.loss)} ({signed_between(row.low, row.high)})"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("group", "score", "teacher"))
    return table
