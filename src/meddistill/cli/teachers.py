"""`meddistill teachers list|show`."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from meddistill.teachers.catalogue import CatalogueEntry


def list_teachers() -> None:
    """All known medical teachers: how they are loaded, what they give, under what terms."""
    from rich.table import Table

    from meddistill.cli.console import stdout_console
    from meddistill.licences import NOT_LEGAL_ADVICE
    from meddistill.teachers.catalogue import catalogue

    table = Table(title="Known medical teachers", title_justify="left", caption=NOT_LEGAL_ADVICE)
    for heading in (
        "id",
        "name",
        "kind",
        "size",
        "image / text / patch dims",
        "licence",
        "how sure",
        "modalities",
    ):
        table.add_column(heading)
    for identifier, entry in catalogue().items():
        dims = " / ".join(str(entry.dims.get(signal, "-")) for signal in ("image", "text", "patches"))
        table.add_row(
            identifier,
            entry.name,
            entry.config.kind,
            str(entry.image_size or "-"),
            dims,
            entry.licence.name + (", gated" if entry.gated else ""),
            entry.licence_certainty,
            ", ".join(entry.config.modalities or ("all",)),
        )
    stdout_console().print(table)


def show(identifier: Annotated[str, Parameter(help="An id of `meddistill teachers list`.")], /) -> None:
    """One teacher's card, and the lines that put it into a recipe."""
    from meddistill.teachers.catalogue import find_entry

    entry = find_entry(identifier)
    licence = entry.licence
    lines = {
        "name": entry.name,
        "loaded by": entry.config.kind + (" (needs a small factory of yours)" if entry.needs_wrapper else ""),
        "gives": ", ".join(sorted(entry.signals)),
        "input": _input(entry),
        "widths": _widths(entry),
        "licence": f"{licence.name} (known from: {entry.licence_certainty})",
        "distillation": licence.distillation,
        "access": "gated: the owner grants it" if entry.gated else "open",
        "pretraining data": _pretraining(entry),
        "facts known from": entry.facts_certainty,
        "distilled by": ", ".join(entry.systems) or "no published system",
        "notes": entry.notes.strip(),
        "how to get it": entry.how_to_get(f"teachers/{identifier}"),
        "see": entry.url,
    }
    for label, text in lines.items():
        print(f"{label + ':':<18}{text}")
    print(f"\nIn a recipe:\nteachers:\n  {identifier}:")
    print("".join(f"    {line}\n" for line in entry.recipe_entry().splitlines()), end="")


def _input(entry: "CatalogueEntry") -> str:
    sees = f"images of {entry.image_size} px" if entry.image_size else ""
    reads = f"texts of {entry.context_length} tokens" if entry.context_length else ""
    return ", ".join(part for part in (sees, reads) if part)


def _widths(entry: "CatalogueEntry") -> str:
    return ", ".join(f"{signal} {dim}" for signal, dim in entry.dims.items())


def _pretraining(entry: "CatalogueEntry") -> str:
    names = ", ".join(entry.config.pretraining_data)
    if not names:
        return "not recorded"
    return f"{names} (known from: {entry.data_certainty})"
