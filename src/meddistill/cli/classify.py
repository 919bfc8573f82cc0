"""`meddistill classify BUNDLE IMAGE…`."""

import csv
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from meddistill.cli.bundles import (
    DEFAULT_EMBED_OPTIONS,
    DEFAULT_SELECTORS,
    BundleFolder,
    EmbedOptions,
    Selectors,
    refuse_nothing_read,
    split_labels,
    warn_of_flat,
)

if TYPE_CHECKING:
    from meddistill.runtime import Classification

Format = Literal["table", "json", "csv"]


def classify(
    bundle: BundleFolder,
    images: Annotated[list[Path], Parameter(help="PNG, JPEG, TIFF, BMP, DICOM or NIfTI files.")],
    /,
    *,
    labels: Annotated[str, Parameter(help='Classes, separated by commas: "chest radiograph, head CT".')],
    templates: Annotated[
        list[str] | None,
        Parameter(negative="", help='Prompts with one {}, such as "a photo of {}"; several are averaged.'),
    ] = None,
    format: Format = "table",
    options: EmbedOptions = DEFAULT_EMBED_OPTIONS,
    selectors: Selectors = DEFAULT_SELECTORS,
) -> None:
    """Say which of the labels fits each image best.

    Scores are probabilities over the given labels: one always fits best, even where none fits.
    """
    from meddistill.runtime import DEFAULT_TEMPLATES, Bundle, Embedder
    from meddistill.runtime import classify as score

    opened = Bundle.open(bundle)
    results = score(
        opened,
        selectors.references(images),
        split_labels(labels),
        templates=templates or DEFAULT_TEMPLATES,
        embedder=Embedder(opened, precision=options.precision),
        on_mistake=options.on_mistake,
    )
    refuse_nothing_read(len(images), len(results))
    warn_of_flat([str(result.path) for result in results if result.is_flat])
    _WRITERS[format](results)


def _write_table(results: "list[Classification]") -> None:
    """A table on a terminal that is wide enough for it; else a line for each image, best label first."""
    if not (sys.stdout.isatty() and _write_columns(results)):
        for result in results:
            ranked = sorted(result.scores.items(), key=lambda item: -item[1])
            sys.stdout.write(
                f"{result.path}: {', '.join(f'{label} {score:.3f}' for label, score in ranked)}\n"
            )


def _write_columns(results: "list[Classification]") -> bool:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("image", *results[0].scores, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        scores = (
            f"[bold green]{score:.3f}[/]" if label == result.best else f"{score:.3f}"
            for label, score in result.scores.items()
        )
        table.add_row(_plain(str(result.path)), *scores)
    fits = table.__rich_measure__(console, console.options.update(width=10_000)).maximum <= console.width
    if fits:
        console.print(table)
    return fits


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _write_json(results: "list[Classification]") -> None:
    rows = [{"image": str(result.path), "best": result.best, "scores": result.scores} for result in results]
    sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def _write_csv(results: "list[Classification]") -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "best", *(results[0].scores if results else ())])
    for result in results:
        writer.writerow([result.path, result.best, *(f"{score:.6f}" for score in result.scores.values())])


_WRITERS: Mapping[Format, "Callable[[list[Classification]], None]"] = {
    "table": _write_table,
    "json": _write_json,
    "csv": _write_csv,
}
