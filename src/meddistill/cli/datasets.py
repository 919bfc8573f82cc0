"""`meddistill datasets list|show|prepare`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Key = Annotated[str, Parameter(help="A name of `meddistill datasets list`.")]


def list_sets() -> None:
    """All known public data sets: what they are for, under what terms, who may have them."""
    from rich.table import Table

    from meddistill.cli.console import stdout_console
    from meddistill.data.known.catalogue import known_sets
    from meddistill.licences import NOT_LEGAL_ADVICE

    table = Table(title="Known data sets", title_justify="left", caption=NOT_LEGAL_ADVICE)
    for heading in ("name", "set", "tasks", "modalities", "licence", "access", "verified"):
        table.add_column(heading)
    for key, known in known_sets().items():
        table.add_row(
            key,
            known.name,
            ", ".join(known.tasks),
            ", ".join(known.modalities),
            known.licence,
            known.access,
            "yes" if known.verified else "no",
        )
    stdout_console().print(table)


def show(key: Key, /) -> None:
    """One data set: terms, where it is handed out, the layout that is read, the command that prepares it."""
    from meddistill.data.known.catalogue import find_set

    known = find_set(key)
    read_copy = "a real copy was read" if known.verified else "no real copy was read, fixtures only"
    lines = {
        "name": known.name,
        "tasks": ", ".join(known.tasks),
        "modalities": ", ".join(known.modalities),
        "in `dataset:`": ", ".join(known.dataset),
        "licence": " ".join(f"{known.licence}. {known.licence_note}".split()),
        "access": known.access,
        "handed out at": known.source,
        "layout": known.layout.strip(),
        "layout known from": known.layout_certainty,
        "verified": read_copy,
        "notes": known.notes.strip(),
        "prepare it": known.command(),
    }
    for label, text in lines.items():
        if text:
            print(f"{label + ':':<20}{text}")


def prepare(
    key: Key,
    /,
    *,
    source: Annotated[Path, Parameter(name="--from", help="The folder that holds your copy, unpacked.")],
    out: Annotated[Path, Parameter(help="Where tables and suite.yaml are written; absent or empty.")],
    skip_missing: Annotated[
        bool, Parameter(negative="", help="Leave out rows whose image is not there, and count them.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Turn your copy of a public data set into tables and a suite; fetches nothing."""
    from meddistill.cli.options import RunOptions
    from meddistill.data.known.prepare import prepare as work

    progress = RunOptions(quiet=quiet).progress()
    prepared = work(key, source, out, skip_missing=skip_missing, progress=progress)
    for path, rows in prepared.tables.items():
        split = ", ".join(f"{name} {count:,}" for name, count in rows.items())
        print(f"{path}: {sum(rows.values()):,} rows ({split})")
    if prepared.suite is not None:
        print(f"{prepared.suite}: {', '.join(f'{name} ({kind})' for name, kind in prepared.tasks)}")
    for note in prepared.notes:
        print(f"note: {note}")


def join(
    *folders: Annotated[Path, Parameter(help="Folders that `meddistill datasets prepare` wrote.")],
    out: Annotated[Path, Parameter(help="The suite that is written, a new .yaml file.")],
) -> None:
    """One suite of several prepared sets."""
    from meddistill.data.known.join import join as work

    tasks = work(folders, out)
    print(f"{out}: {', '.join(f'{name} ({kind})' for name, kind in tasks)}")
