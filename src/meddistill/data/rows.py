"""The rules that each row of a table has to meet."""

from collections.abc import Callable, Mapping

from meddistill.data.paths import PathRefusedError, shown
from meddistill.data.raw_table import RawTable
from meddistill.imaging import ImageFile, ImageRef, normalize_text

_SELECTORS = ("frame", "axis", "slice")
_LONGEST_NUMBER = 9
_NAMES_A_FILE = ("image", "images.")


class Row:
    """One row while it is checked: its cells by role, what is wrong with it, and its images once found."""

    __slots__ = (  # there are millions
        "_blank",
        "_named",
        "_raw",
        "_refused",
        "index",
        "mistakes",
        "others",
        "ref",
    )

    def __init__(self, raw: RawTable, index: int, named: Mapping[str, str]) -> None:
        self.index = index
        self.ref: ImageRef | None = None
        self.others: dict[str, ImageRef] | None = None
        self.mistakes: list[str] = []
        self._raw = raw
        self._named = named
        self._refused: frozenset[str] = frozenset()
        self._blank: frozenset[str] = frozenset()
        if index in raw.broken:
            self.mistakes.append(f"the row {raw.broken[index]}")
            self._refused = frozenset(named)
        for role in named:
            self._check_encoding(role)

    def has(self, role: str) -> bool:
        """Whether the table has a column for `role`."""
        return role in self._named

    def cell(self, role: str) -> str:
        """The cell, without blanks around it; "" if it was found blank, or there is no column."""
        return self._stored(role).strip() if role in self._named and role not in self._blank else ""

    def readable(self, role: str) -> bool:
        """Whether there is a cell for `role` that nothing was said against yet."""
        return role in self._named and role not in self._refused

    def clear(self, role: str) -> None:
        """Take the cell for blank, whatever white space it holds."""
        self._blank |= {role}

    def refuse(self, role: str, rule: str) -> None:
        """Note that the cell breaks `rule`; a column that plays several roles is named once."""
        self._refused |= {role}
        line = f"`{self._named[role]}` {rule}."
        if line not in self.mistakes:
            self.mistakes.append(line)

    def _stored(self, role: str) -> str:
        return self._raw.columns[self._named[role]][self.index]

    def _check_encoding(self, role: str) -> None:
        # A file's name is the bytes that its disk has, whatever they mean.
        if not self.readable(role) or role.startswith(_NAMES_A_FILE):
            return
        cell = self._stored(role)
        other = None if cell.isascii() else next((c for c in cell if "\ud800" <= c <= "\udfff"), None)
        if other is not None:
            do = "Save the table as UTF-8" if self._raw.shards is None else "Pack it as UTF-8"
            self.refuse(role, f"must be UTF-8; got byte 0x{ord(other) & 0xFF:02X}. {do}")


class RowChecks:
    """Checks rows in order; knows the ids it has seen.

    `find` gives, by role, the image that a row and its cell name, or raises PathRefusedError; `image` is the
    row's own. With `blank_captions` a row may have no caption.
    """

    def __init__(
        self,
        raw: RawTable,
        find: Mapping[str, Callable[[int, str], ImageFile]],
        *,
        blank_captions: bool = False,
    ) -> None:
        self._raw = raw
        self._find = find
        self._blank_captions = blank_captions
        self._first_with_id: dict[str, int] = {}

    def check(self, row: Row) -> None:
        """Add every mistake of the row to `row.mistakes`; set `row.ref` and `row.others` when found."""
        if row.readable("text") and not normalize_text(row.cell("text")):
            row.clear("text")
            if not self._blank_captions:
                row.refuse("text", "must hold a caption; got an empty one")
        if row.readable("patient") and not row.cell("patient"):
            row.refuse("patient", "must name a patient; got a blank, with which splits could leak")
        if row.readable("id"):
            self._check_id(row)
        selectors = self._selectors(row)
        for role in self._find:
            if row.readable(role):
                self._find_image(row, role, selectors)

    def _check_id(self, row: Row) -> None:
        name = row.cell("id")
        first = self._first_with_id.setdefault(name, row.index)
        if not name:
            row.refuse("id", "must hold an id; got a blank")
        elif first != row.index:
            other = self._raw.row_name(first)
            row.refuse("id", f"must be unique; got {shown(name)}, which is also the id of {other}")

    def _selectors(self, row: Row) -> dict[str, int]:
        chosen = {}
        for role in _SELECTORS:
            cell = row.cell(role)
            if not cell or not row.readable(role):
                continue
            if cell.isascii() and cell.isdecimal() and len(cell) <= _LONGEST_NUMBER:
                chosen[role] = int(cell)
            else:
                row.refuse(role, f"must be a whole number from 0; got {shown(cell)}")
        return chosen

    def _find_image(self, row: Row, role: str, selectors: Mapping[str, int]) -> None:
        try:
            ref = ImageRef(self._find[role](row.index, row.cell(role)), **selectors)
        except PathRefusedError as refused:
            row.refuse(role, str(refused))
            return
        if role == "image":
            row.ref = ref
        else:
            row.others = {**(row.others or {}), role: ref}
