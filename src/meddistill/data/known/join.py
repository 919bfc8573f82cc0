"""Several prepared sets as one suite."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml, load_yaml
from meddistill.data.known.prepare import SUITE_FILE
from meddistill.errors import ConfigError
from meddistill.files import write_whole

_SUBJECT: Final = "datasets join"
_PATHS: Final = ("table", "root")


def join(folders: Sequence[Path], out: Path) -> list[tuple[str, str]]:
    """Write one suite of the prepared sets in `folders` to the file `out`; its tasks with their kinds.

    Paths are made relative to `out`. Raises ConfigError, with all mistakes, for folders without a suite and
    for names of tables or tasks that two of them have, and where `out` exists.
    """
    mistakes = [f"`{folder}` must hold {SUITE_FILE}; it does not. Prepare the set first."
                for folder in folders if not (folder / SUITE_FILE).is_file()]  # fmt: skip
    if out.exists():
        mistakes.append(f"`--out` must be a new file; got {out}. Choose another, or delete it.")
    if mistakes:
        raise ConfigError(_SUBJECT, mistakes)
    tables: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    for folder in folders:
        suite = load_yaml((folder / SUITE_FILE).read_text(encoding="utf-8"))
        for name, table in suite["tables"].items():
            _add(tables, name, _moved(table, folder, out), mistakes)
        for task in suite["tasks"]:
            moved = (
                {**task, "stored": _relative_all(task["stored"], folder, out)} if "stored" in task else task
            )
            _add(tasks, task["name"], moved, mistakes)
    if mistakes:
        raise ConfigError(_SUBJECT, mistakes)
    content = {"name": out.stem, "tables": tables, "tasks": list(tasks.values())}
    text = dump_yaml(content)
    write_whole(out, text.encode())
    return [(name, task["kind"]) for name, task in tasks.items()]


def _add(there: dict[str, Any], name: str, value: Any, mistakes: list[str]) -> None:
    if name in there:
        mistakes.append(f"names must differ between sets; `{name}` is in two of them. Join only one.")
    there[name] = value


def _moved(table: Mapping[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    return {**table, **_relative_all({key: table[key] for key in _PATHS if key in table}, folder, out)}


def _relative_all(paths: Mapping[str, str], folder: Path, out: Path) -> dict[str, str]:
    return {name: _relative(folder.resolve() / path, out.resolve().parent) for name, path in paths.items()}


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
