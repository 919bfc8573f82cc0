"""What an import made, and the lines of a recipe that trains from it."""

from meddistill.core_yaml import dump_yaml
from meddistill.errors import MOST_LINES
from meddistill.features.importing.cards import entry_of
from meddistill.features.importing.importer import Imported


def print_import(imported: Imported) -> None:
    """Counts, what was left out, and the lines."""
    table, store = imported.table, imported.store
    for line in imported.skipped[:MOST_LINES]:
        print(f"left out: {line}")
    if len(imported.skipped) > MOST_LINES:
        print(f"left out: {len(imported.skipped) - MOST_LINES:,} more")
    print(
        f"{table.rows:,} pairs, {table.teachers_a_row:.1f} of {len(store.teachers)} teachers a pair; "
        f"{table.left_out:,} samples left out"
    )
    print(f"store: {store.path}")
    print(f"table: {table.path}")
    print("In a recipe:")
    print(dump_yaml(recipe_lines(imported)), end="")


def recipe_lines(imported: Imported) -> dict[str, object]:
    """The parts of a recipe that name the table, the store and the teachers with their licences."""
    table, store = imported.table, str(imported.store.path.resolve())
    teachers: dict[str, object] = {}
    for name in imported.store.teachers:
        entry = entry_of(name)
        licence = None if entry is None else entry.config.model_dump()["licence"]
        teachers[name] = {"kind": "stored", "store": store, "licence": licence or "unknown"}
    train = {"table": str(table.path.resolve()), "root": str(table.root.resolve()), "text": "text"}
    return {
        "data": {"train": train},
        "teachers": teachers,
        "features": {"availability": {"column": "teachers", "unknown_names": "ignore"}},
    }
