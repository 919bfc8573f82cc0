"""The folder that a data set is read from: what must be there, and every file that is not."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from meddistill.data.csv_text import MalformedError, Records, fitted, records_of, too_long
from meddistill.data.known.draft import Row
from meddistill.errors import ConfigError, TableError
from meddistill.file_kinds import met, unreadable, why_not_json
from meddistill.progress import Progress, SilentProgress

_SAID: Final = 8
_COMPARE: Final = "Compare it with the file that the set's authors hand out."
_AS_UTF8: Final = "Save it as UTF-8."
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".dcm")


@dataclass(frozen=True, kw_only=True)
class Source:
    """`folder` holds the set as its authors hand it out; `images` is where pictures of arrays are written.

    `outside` is how the suite that is written names `folder`.
    `layout` is the catalogue's description of it, for messages. `skip_missing`: rows whose image is not there
    are left out and counted, instead of refused.
    """

    name: str
    folder: Path
    images: Path
    outside: str = "."
    layout: str = ""
    skip_missing: bool = False
    progress: Progress = field(default_factory=SilentProgress)

    @property
    def subject(self) -> str:
        """What messages call the set."""
        return f"data set {self.name}"

    def not_that_layout(self, missing: Sequence[str]) -> ConfigError:
        """The refusal of a folder that is laid out otherwise; `missing` is what was looked for."""
        lines = [f"`--from` must hold {what}; got {self.folder} without it." for what in missing]
        return ConfigError(self.subject, lines, remedy=f"The layout that is read: {self.layout.strip()}")

    def first(self, *candidates: str) -> Path | None:
        """The first of these files or folders that is there."""
        return next((self.folder / each for each in candidates if (self.folder / each).exists()), None)

    def need(self, what: str, *candidates: str) -> Path:
        """Likewise; raises ConfigError where none is."""
        path = self.first(*candidates)
        if path is None:
            raise self.not_that_layout([what])
        return path

    def cell(self, path: Path) -> str:
        """How a table names a file of the set."""
        return path.relative_to(self.folder).as_posix()

    def list_of(self, path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
        """The records of a JSON file, each with the `needed` keys; raises TableError otherwise."""
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise TableError(str(path), [f"the file must be JSON; got {why_not_json(path, error)}"]) from None
        if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
            got = type(content).__name__
            raise TableError(str(path), [f"the file must hold a list of records; got {got}. {_COMPARE}"])
        check_columns(path, content, needed)
        return content

    def keep_there(self, rows: Iterable[Row], *, notes: list[str]) -> list[Row]:
        """The rows whose image is there; raises TableError with the others' numbers, or counts them."""
        rows = list(rows)
        names = dict.fromkeys(row["image"] for row in rows)
        there = {name for name in names if (self.folder / name).is_file()}
        kept = [row for row in rows if row["image"] in there]
        if len(kept) == len(rows):
            return rows
        absent = len(rows) - len(kept)
        if not kept:
            msg = f"its images ({next(iter(names))} is the first)"
            raise self.not_that_layout([msg])
        if not self.skip_missing:
            first = _listed([name for name in names if name not in there])
            rule = f"images must be there; {absent} of {len(rows)} rows name one that is not: {first}."
            do = "Fetch them, or leave these rows out with --skip-missing; scores are then of other data."
            raise TableError(self.subject, [f"{rule} {do}"])
        notes.append(f"{absent} of {len(rows)} rows left out: their image is not there")
        return kept


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV, or of a tab-separated file that ends in .tsv or .txt.

    Raises TableError for a file that cannot be read or has a malformed row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as refusal:
        raise TableError(str(path), [f"the table must be readable; got {unreadable(refusal)}"]) from None
    except UnicodeDecodeError:
        rule = f"the table must be UTF-8 text; got {met(path, otherwise='other bytes', do=_AS_UTF8)}"
        raise TableError(str(path), [rule]) from None
    tabs = path.suffix.lower() in {".tsv", ".txt"}
    # Tab-separated files of clinical data quote nothing; a lone quotation mark would swallow the rest.
    try:
        parsed = records_of(text, signs="\t" if tabs else ",;", quoted=not tabs)
    except MalformedError as error:
        rule = f"the table must be well-formed; the record that begins on line {error.line} is not ({error})."
        raise TableError(str(path), [f"{rule} Quote cells as a spreadsheet program does."]) from None
    return list(_rows(path, parsed))


def _rows(path: Path, parsed: Records) -> Iterator[Row]:
    header: list[str] = []
    mistakes = []
    for line, record in zip(parsed.lines, parsed.records, strict=True):
        if not header:
            # cBioPortal writes lines of explanation above its header.
            header = [] if record[0].startswith("#") else [name.strip() for name in record]
        elif (cells := fitted(record, len(header))) is not None:
            yield {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        else:
            mistakes.append(f"line {line}: the row {too_long(record, len(header), parsed.sign)}")
    if mistakes:
        raise TableError(str(path), mistakes)


def check_columns(path: Path, rows: Sequence[Mapping[str, Any]], needed: Sequence[str]) -> None:
    """Raise TableError where rows lack columns, or there are none."""
    if not rows:
        raise TableError(str(path), [f"the table must have rows; got none. {_COMPARE}"])
    mistakes = []
    for name in needed:
        without = [number for number, row in enumerate(rows, start=1) if name not in row]
        if without:
            numbers = _listed([str(number) for number in without])
            mistakes.append(f"`{name}` must be there in every row; rows {numbers} lack it.")
    if mistakes:
        raise TableError(str(path), mistakes)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SAID
    return ", ".join(names[:_SAID]) + (f" and {more:,} more" if more > 0 else "")
