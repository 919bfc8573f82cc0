"""`meddistill classify BUNDLE IMAGE…`."""

import csv
import json
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from meddistill.bundle_format import PROMPTS
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
from meddistill.errors import ConfigError

if TYPE_CHECKING:
    from meddistill.runtime import Classification

Format = Literal["table", "json", "csv"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Classes:
    """What the classes are: labels, or a task of the bundle."""

    labels: Annotated[
        str | None, Parameter(help='Classes, separated by commas: "chest radiograph, head CT".')
    ] = None
    task: Annotated[
        str | None,
        Parameter(help="Instead of labels: a task of the bundle's `prompts/`, with its classes and prompts."),
    ] = None
    templates: Annotated[
        list[str] | None,
        Parameter(negative="", help='Prompts with one {}, such as "a photo of {}"; several are averaged.'),
    ] = None

    def refuse_unclear(self, held: Collection[str]) -> None:
        """ConfigError unless either labels or one of the tasks that are `held` says what the classes are."""
        known = ", ".join(held)
        mistakes = []
        if self.labels is None and self.task is None:
            more = f", or `--task` with prompts of the bundle: {known}" if known else ""
            mistakes.append(
                f'`--labels` must name the classes; got none. Give them, as in --labels "one, another"{more}.'
            )
        elif self.labels is not None and self.task is not None:
            mistakes.append("`--labels` and `--task` must not both be given. Leave one out.")
        elif self.task is not None and self.task not in held:
            remedy = f"Name one of {known}" if known else "It has none: give `--labels`"
            rule = f"`--task` must be a task of the bundle's `{PROMPTS}/`"
            mistakes.append(f"{rule}; got {self.task}. {remedy}.")
        if self.task is not None and self.templates:
            mistakes.append("`--templates` must be left out with `--task`, which has prompts of its own.")
        if mistakes:
            raise ConfigError(subject="classify", mistakes=mistakes)


_DEFAULT_CLASSES = Classes()


def classify(
    bundle: BundleFolder,
    images: Annotated[list[Path], Parameter(help="PNG, JPEG, TIFF, BMP, DICOM or NIfTI files.")],
    /,
    *,
    classes: Classes = _DEFAULT_CLASSES,
    format: Format = "table",
    options: EmbedOptions = DEFAULT_EMBED_OPTIONS,
    selectors: Selectors = DEFAULT_SELECTORS,
) -> None:
    """Say which of the labels, or of a task's classes, fits each image best.

    Scores are probabilities over the given labels: one always fits best, even where none fits.
    """
    from meddistill.runtime import DEFAULT_TEMPLATES, Bundle, Embedder, classify_by_task
    from meddistill.runtime import classify as classify_by_labels

    opened = Bundle.open(bundle)
    classes.refuse_unclear(opened.prompts())
    score = (
        partial(classify_by_task, task=classes.task)
        if classes.task is not None
        else partial(
            classify_by_labels,
            labels=split_labels(classes.labels or ""),
            templates=classes.templates or DEFAULT_TEMPLATES,
        )
    )
    results = score(
        opened,
        selectors.references(images),
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
