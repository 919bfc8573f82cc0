"""A list of texts from a file: one a line, or a column of a table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meddistill.data.config import TextTable
from meddistill.data.keys import text_key
from meddistill.data.raw_table import read_raw
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.file_kinds import stand_in, unreadable
from meddistill.imaging import normalize_text

_FEWEST: Final = 2  # a distribution over one text says nothing
_TABLES: Final = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class TextBank:
    """Different texts in the order of their first appearance, and their content keys.

    `repeated` counts the texts that were left out since a model cannot tell them from an earlier one: counted
    twice, a class would weigh twice. What is equal to a model (`normalize_text`) cannot be seen in the file,
    so they are told and not refused.
    """

    texts: tuple[str, ...]
    keys: tuple[str, ...]
    repeated: int = 0

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TextBank":
        """The different ones of these texts."""
        distinct: dict[str, str] = {}
        for text in texts:
            distinct.setdefault(text_key(text), text)
        return cls(texts=tuple(distinct.values()), keys=tuple(distinct), repeated=len(texts) - len(distinct))

    @property
    def fingerprint(self) -> str:
        """sha256 over the keys, in their order."""
        return hashlib.sha256("".join(self.keys).encode()).hexdigest()


def read_text_bank(place: str | TextTable, *, base: Path) -> TextBank:
    """The bank of a file with one text a line (UTF-8), or of a table.

    Raises TableError with every mistake: no such file, another kind of file, no text, empty lines, bytes that
    are no UTF-8, fewer than two different texts.
    """
    path = base / (place if isinstance(place, str) else place.table)
    noun = "line" if isinstance(place, str) else "row"
    texts = _lines(path) if isinstance(place, str) else _column(path, place.text)
    mistakes = _wrong(texts, noun=noun)
    if mistakes:
        raise TableError(str(path), mistakes)
    bank = TextBank.of(texts)
    if len(bank.texts) < _FEWEST:
        rule = f"must hold {_FEWEST} different texts at least; got {len(bank.texts)} in {len(texts)} {noun}s"
        raise TableError(str(path), [f"`texts` {rule}. Add others, or leave the bank out."])
    return bank


def _wrong(texts: Sequence[str], *, noun: str) -> list[str]:
    if not texts:
        return ["`texts` must hold texts; got none. Write one a line."]
    numbered = list(enumerate(texts, 1))
    empty = [number for number, text in numbered if not normalize_text(text)]
    broken = [number for number, text in numbered if not _is_unicode(text)]
    mistakes = []
    if empty:
        rule = f"`texts` must have a text in every {noun}; empty: {name_rows(empty, noun=noun)}"
        mistakes.append(f"{rule}. Remove what is empty.")
    if broken:
        rule = f"`texts` must be UTF-8; other bytes stand in {name_rows(broken, noun=noun)}"
        mistakes.append(f"{rule}. Save the file as UTF-8.")
    return mistakes


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TableError(str(path), ["`texts` must exist; got no such file. Mend the path."]) from None
    except OSError as error:
        mistake = f"`texts` must be readable; got {unreadable(error)}"
        raise TableError(str(path), [mistake]) from None
    instead = stand_in(content[:4096], size=len(content)) if content else None
    if instead is not None:
        raise TableError(str(path), [f"`texts` must be the texts themselves; got {instead}"])
    if path.suffix.lower() in _TABLES or b"\0" in content:
        got = f"a {path.suffix} file" if path.suffix.lower() in _TABLES else "binary data, or UTF-16"
        rule = f"`texts` must be a file with one text a line (UTF-8); got {got}"
        raise TableError(
            str(path), [f"{rule}. Of a table name the column: {{table: <file>, text: <column>}}."]
        )
    lines = content.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _column(path: Path, name: str) -> list[str]:
    raw = read_raw(path, [name])
    mistakes = [f"{raw.row_name(index)}: {problem}" for index, problem in raw.broken.items()]
    if name not in raw.columns:
        names = ", ".join(raw.names) or "none"
        mistakes.append(f"`text` must name a column of the table; got {name!r}. It has {names}.")
    if mistakes:
        raise TableError(str(path), mistakes)
    return list(raw.columns[name])
