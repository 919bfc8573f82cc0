"""Features that lie in folders, one file a bag: which files, whether of one model, and beside what."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from meddistill.data.samples import name_rows
from meddistill.errors import TableError, UserError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.bags.slide_features import feature_file


def stored_files(
    part: EvalSplit, name: str, folder: Path, *, bags: Sequence[str], rows: Sequence[int], what: str = "bag"
) -> list[Path]:
    """The file of every bag; `folder` starts at the suite's, `rows` are the first of each bag.

    Raises TableError with the rows of bags that have none.
    """
    files = [feature_file(part.base / folder, bag) for bag in bags]
    absent = [row for row, path in zip(rows, files, strict=True) if path is None]
    if absent:
        rule = (
            f"`stored.{name}` must be a folder with an .h5 file for every {what}, named by the {what}; there "
            f"is none for {what}s that begin in {name_rows(absent)}. Add them, or leave these rows out."
        )
        raise TableError(part.subject, [rule])
    return [path for path in files if path is not None]


def check_width(name: str, widths: Iterable[int]) -> None:
    """Raise UserError for features of different widths, which no one model made."""
    different = sorted(set(widths))
    if len(different) > 1:
        got = " and ".join(str(width) for width in different[:2])
        msg = f"`stored.{name}` must hold features of one model; got widths {got}. Sort the files."
        raise UserError(msg)


def file_facts(files: Iterable[Path]) -> list[str]:
    """Name, size and time of every file, as text."""
    stats = [(path, path.stat()) for path in files]
    return [str((path.name, stat.st_size, stat.st_mtime_ns)) for path, stat in stats]


def other_inputs(stored: Iterable[str], *, pictures: int, bags: int) -> list[str]:
    """A warning where models see one picture of each bag, and stored features all of it."""
    names = ", ".join(stored)
    if not names or pictures > bags:
        return []
    return [
        f"models see one picture where the stored features ({names}) hold all tiles: a difference between "
        "them is not one between models"
    ]
