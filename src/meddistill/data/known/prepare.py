"""From a copy of a public data set on this disk to tables and a suite."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml
from meddistill.data.known.catalogue import KnownSet, find_set
from meddistill.data.known.draft import Draft, DraftTable, counts
from meddistill.data.known.source import Source
from meddistill.errors import ConfigError, UserError
from meddistill.files import folder_aside, writing
from meddistill.progress import Progress, SilentProgress

SUITE_FILE: Final = "suite.yaml"
Preparer = Callable[[Source], Draft]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was written: the suite, each table's rows by split, and what the reader has to know.

    `suite` is None where no task could be made of the copy.
    """

    suite: Path | None
    tables: Mapping[Path, Mapping[str, int]]
    tasks: Sequence[tuple[str, str]]
    notes: Sequence[str]


def prepare(
    name: str,
    source: Path,
    out: Path,
    *,
    skip_missing: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Write tables and a suite for the known set `name`, whose copy lies in `source`, to the folder `out`.

    Images that are files stay where they are: the suite names their folder relative to `out`. Images that
    stand in arrays or tables are written below `out/images`. `out` appears whole or not at all. Nothing is
    fetched, unpacked or unpickled.

    Raises
    ------
    ConfigError
        For a name that is not known, a folder laid out otherwise, or an `out` that holds anything.
    TableError
        For rows that cannot be used; `skip_missing` leaves out those without an image.
    """
    known = find_set(name)
    _check_folders(name, source, out)
    with writing(out), folder_aside(out, replace=False) as partial:
        place = Source(
            name=name,
            folder=source.resolve(),
            images=partial / "images",
            outside=_relative(source.resolve(), out),
            layout=known.layout,
            skip_missing=skip_missing,
            progress=progress or SilentProgress(),
        )
        draft = _preparer(known)(place)
        _write(partial, draft, known, root=place.outside)
    return Prepared(
        suite=out / SUITE_FILE if draft.tasks else None,
        tables={out / f"{table.name}.csv": counts(table.rows) for table in draft.tables},
        tasks=[(task["name"], task["kind"]) for task in draft.tasks],
        notes=tuple(draft.notes),
    )


def _preparer(known: KnownSet) -> Preparer:
    module = import_module(f"meddistill.data.known.{known.preparer}")
    draft: Preparer = module.draft
    return draft


def _check_folders(name: str, source: Path, out: Path) -> None:
    mistakes = []
    if not source.is_dir():
        mistakes.append(f"`--from` must be a folder; got {source}. Unpack the set there first.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        mistakes.append(f"`--out` must be absent or an empty folder; got {out}. Choose another, or empty it.")
    if mistakes:
        subject = f"data set {name}"
        raise ConfigError(subject, mistakes)


def _relative(folder: Path, out: Path) -> str:
    """How the suite in `out` names `folder`, so that both may move together."""
    try:
        return Path(os.path.relpath(folder, out.resolve())).as_posix()
    except ValueError:  # another drive
        return folder.as_posix()


def _write(folder: Path, draft: Draft, known: KnownSet, *, root: str) -> None:
    empty = [table.name for table in draft.tables if not table.rows]
    if empty:
        msg = f"`--from` must hold rows for {', '.join(empty)}; got none. Copy the set again."
        raise UserError(msg)
    for table in draft.tables:
        (folder / f"{table.name}.csv").write_bytes(_csv(table).encode("utf-8", "surrogateescape"))
    if draft.tasks:
        (folder / SUITE_FILE).write_text(suite_text(draft, known, root=root), encoding="utf-8")


def _csv(table: DraftTable) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return text.getvalue()


def suite_text(draft: Draft, known: KnownSet, *, root: str) -> str:
    """The suite as YAML, with licence, access and notes in its head."""
    tables: dict[str, Any] = {}
    for table in draft.tables:
        for view, where in table.views.items():
            tables[view] = {"table": f"{table.name}.csv"}
            if table.in_place:
                tables[view]["root"] = root
            tables[view] |= table.roles
            if where:
                tables[view]["where"] = dict(where)
    content = {"name": known.key, "tables": tables, "tasks": draft.tasks}
    head = [f"{known.name}. Licence: {known.licence}. {known.access}", *draft.notes]
    lines = "".join(f"# {' '.join(line.split())}\n" for line in head)
    return lines + dump_yaml(content)
