"""`meddistill features verify|stats|audit|import|add`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from meddistill.cli.options import DEFAULT_RUN, Recipe, RunOptions
from meddistill.features.config import StoredPrecision

StoreFolder = Annotated[Path, Parameter(help="The store's folder, such as runs/mine/features, or its run's.")]


def verify(
    store: StoreFolder,
    /,
    *,
    repair: Annotated[
        bool, Parameter(negative="", help="Drop damaged shards; extraction then makes only those again.")
    ] = False,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Check the hash of every file of a store and name each one that is damaged."""
    from meddistill.errors import StoreError
    from meddistill.features import verify as checking
    from meddistill.recipes.run_folder import store_of
    from meddistill.report.formatting import plural

    store = store_of(store)
    progress = RunOptions(quiet=quiet).progress()
    work = checking.repair if repair else checking.verify
    verified = work(store, progress=progress)
    for damage in verified.damages:
        print(f"{damage.file}: {damage.problem}")
    if verified.damages and not repair:
        msg = (
            f"`{store}` must hold every file as it was written; {len(verified.damages)} of {verified.files} "
            "are not. Drop them with --repair, then extract again: only those are made anew."
        )
        raise StoreError(msg)
    dropped = (
        f"{plural(len(verified.damages), 'damaged file')} restored or dropped; " if verified.damages else ""
    )
    print(f"{dropped}{verified.files} files, {verified.bytes / 1e6:,.1f} MB checked.")


def stats(store: StoreFolder, /) -> None:
    """What a store holds: rows, teachers, sizes, mean norms, effective ranks."""
    from rich.table import Table

    from meddistill.cli.console import stdout_console
    from meddistill.features.reader import FeatureStore
    from meddistill.features.summary import summarize
    from meddistill.recipes.run_folder import store_of
    from meddistill.report.formatting import plural

    opened = FeatureStore.open(store_of(store))
    summary = summarize(opened)
    rows = f"{summary.images:,} images of {plural(summary.views, 'view')}, {summary.texts:,} texts"
    size = f"{summary.bytes / 1e6:,.1f} MB with tables and statistics"
    stored = {output.dtype for teacher in opened.teachers for output in opened.outputs(teacher).values()}
    pair = f"{summary.pair_bytes:,.0f} bytes a pair in {' and '.join(sorted(stored))}"
    table = Table(title=f"{rows}; {size}; {pair}")
    headings = (
        "teacher",
        "licence",
        "covers",
        "output",
        "shape",
        "rows",
        "MB",
        "mean norm",
        "effective rank",
    )
    for heading in headings:
        table.add_column(heading)
    for teacher in summary.teachers:
        covers = f"{teacher.covered_images:,} images"
        for output in teacher.outputs:
            table.add_row(
                teacher.id,
                teacher.licence,
                covers,
                output.name,
                "x".join(str(length) for length in output.shape),
                f"{output.rows:,}/{output.rows_expected:,}",
                f"{output.bytes / 1e6:,.1f}",
                _number(output.norm_mean),
                _number(output.effective_rank),
            )
    stdout_console().print(table)


def audit(
    place: Annotated[Path, Parameter(help="A store's folder, a run folder, or the recipe of a run.")],
    /,
    *,
    rows: Annotated[int, Parameter(help="Images to look at; of a larger store so many are drawn.")] = 2000,
    seed: Annotated[int, Parameter(help="Of the draw and of the resamples.")] = 0,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Compare the teachers by their stored features: scores, likeness, redundancy, which to drop first."""
    from meddistill.cli.audit_tables import print_audit
    from meddistill.recipes.steps.audit import audit_place

    audited, path = audit_place(place, rows=rows, seed=seed, progress=RunOptions(quiet=quiet).progress())
    print_audit(audited, path)


def import_published(
    folder: Annotated[Path, Parameter(help="A folder with meta.jsonl and a folder of vectors a sample.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="The store's folder; the table of pairs is written beside it.")],
    projected: Annotated[
        bool, Parameter(negative="", help="Take clips_project_output.pt, not clips_output.pt.")
    ] = False,
    precision: Annotated[StoredPrecision, Parameter(help="Of the stored numbers.")] = "float16",
    skip_damaged: Annotated[bool, Parameter(negative="", help="Leave out samples that are damaged.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Bring the feature files that MMKD-CLIP publishes, a folder a sample, into a feature store."""
    from meddistill.cli.import_lines import print_import
    from meddistill.features.importing.importer import import_published as work

    imported = work(
        folder,
        out,
        projected=projected,
        precision=precision,
        on_damage="skip" if skip_damaged else "raise",
        progress=RunOptions(quiet=quiet).progress(),
    )
    print_import(imported)


def add(recipe: Recipe, /, *, options: RunOptions = DEFAULT_RUN) -> None:
    """Add the recipe's teachers and rows to its run's store; what is there is not touched."""
    from meddistill.cli.running import run_until

    run_until(recipe, options, until="features", again=("features",))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
