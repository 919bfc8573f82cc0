"""Tables as text: which sign parts the columns, and rows as spreadsheet programs leave them."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_SIGNS = ",;\t"
# The first line by which Excel is told the separator.
_SEPARATOR = re.compile(r'"?sep=([,;\t])"?\r?[\n\r]', re.IGNORECASE)


class MalformedError(Exception):
    """A record that is no CSV; `line` is where it begins."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(reason)


@dataclass(frozen=True)
class Records:
    """Records that are not blank throughout, and the lines on which they begin; `sign` parts their cells."""

    records: tuple[list[str], ...]
    lines: tuple[int, ...]
    sign: str


def records_of(text: str, wanted: Sequence[str] = (), *, signs: str = _SIGNS, quoted: bool = True) -> Records:
    """The records of a CSV; raises MalformedError for one whose quotation marks do not fit.

    Of `signs` the one parts the columns that gives the header the most of the `wanted` names, else the most
    names, else the first; a line `sep=;` above the header decides by itself. `quoted` is False for files in
    which a quotation mark is a character like any other.
    """
    stated = _SEPARATOR.match(text)
    sign = stated[1] if stated else max(signs, key=lambda each: _names(text, each, wanted, quoted=quoted))
    records, lines = [], []
    for line, record in _parsed(text[stated.end() :] if stated else text, sign, quoted=quoted):
        if any(not cell.isspace() for cell in record if cell):
            records.append(record)
            lines.append(line + bool(stated))
    return Records(tuple(records), tuple(lines), sign)


def fitted(record: list[str], width: int) -> list[str] | None:
    """The record with as many cells as the header has; None where cells beyond it hold something.

    Excel leaves the last separators of blank cells out over blocks of rows, or writes some too many.
    """
    if len(record) <= width:
        return record + [""] * (width - len(record))
    return None if any(cell.strip() for cell in record[width:]) else record[:width]


def too_long(record: Sequence[str], width: int, sign: str) -> str:
    """What is wrong with a record that has more cells than the header, and what to do."""
    shown = "tab" if sign == "\t" else sign
    rule = f"must have at most {width} cells like the header; got {len(record)}"
    return f"{rule}. Quote cells that hold `{shown}`, or name every column in the header."


def _names(text: str, sign: str, wanted: Sequence[str], *, quoted: bool) -> tuple[int, int]:
    try:
        header = next((record for _, record in _parsed(text, sign, quoted=quoted) if record), [])
    except MalformedError:
        return (-1, 0)
    names = {cell.strip() for cell in header}
    return (len(names.intersection(wanted)), len(header))


def _parsed(text: str, sign: str, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    # Not strict, a quotation mark that is never closed would swallow the rest of the file as one cell.
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign, quoting=quoting, strict=True)
    usual = csv.field_size_limit()
    line = 1
    try:
        while True:
            # The limit belongs to the process; a long caption is no mistake.
            csv.field_size_limit(max(usual, len(text) + 1))
            try:
                record = next(reader)
            finally:
                csv.field_size_limit(usual)
            yield line, record
            line = reader.line_num + 1
    except StopIteration:
        return
    except csv.Error as error:
        raise MalformedError(line, str(error)) from None
