"""The rows of a table that passed: which image, which caption, whose."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from meddistill.imaging.options import DEFAULT_OPTIONS, DecodeOptions, ImageRef

# Rows without a known patient count as patients of their own; see `Samples.patients`.
UNKNOWN_PATIENT = "\0image:"  # begins as no cell does

_MOST_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A table by columns; entry i of every column belongs to sample i.

    `texts` is None for a table without captions, and has "" for a row without one. `ids` are unique; without
    a column of ids they are row numbers. `patients` without a column of patients is `UNKNOWN_PATIENT` and a
    hash of the image's path, so that rows of one image stay together. `modalities` holds "" where unknown.
    `columns` are the other columns that were asked for, `images` pictures beside the row's own by the column
    that names them (label maps). `groups` numbers, from 0, the groups of samples that a stage weighs apart;
    empty where it does not. `rows` are the rows of the table, counted from 1 without the header;
    `tables` says of which table each is, empty where all are of one.
    `skipped` tells why rows were dropped and quotes their cells, `skipped_rows` are their numbers;
    `flat_rows` are those of pictures that show next to nothing of what their files store (`Picture.is_flat`).
    `table_hash` changes with anything above except these three, `tables`, `columns` and `groups`: who reads a
    column says so where its values decide something. It knows the images' paths (relative to their root), not
    their pixels (`image_keys` does).
    """

    refs: tuple[ImageRef, ...]
    texts: tuple[str, ...] | None = None
    ids: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    images: Mapping[str, tuple[ImageRef, ...]] = field(default_factory=dict)
    groups: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    tables: tuple[str, ...] = ()
    options: DecodeOptions = DEFAULT_OPTIONS
    skipped: tuple[str, ...] = ()
    skipped_rows: tuple[int, ...] = ()
    flat_rows: tuple[int, ...] = ()
    table_hash: str = ""

    def __post_init__(self) -> None:
        count = len(self.refs)
        rows = self.rows or tuple(range(1, count + 1))
        ids = self.ids or tuple(str(row) for row in rows)
        patients = self.patients or tuple(f"{UNKNOWN_PATIENT}{name}" for name in ids)
        modalities = self.modalities or ("",) * count
        texts = self.texts or ("",) * count
        named = {"ids": ids, "patients": patients, "modalities": modalities, "texts": texts}
        columns = {f"columns.{name}": column for name, column in self.columns.items()}
        lengths = {name: len(column) for name, column in [*named.items(), *columns.items(), ("rows", rows)]}
        numbered = {"groups": self.groups, "tables": self.tables}
        lengths |= {name: len(each) for name, each in numbered.items() if each}
        lengths |= {f"images.{name}": len(refs) for name, refs in self.images.items()}
        wrong = {name: length for name, length in lengths.items() if length != count}
        if wrong:
            msg = f"columns must have {count} entries like `refs`; got {wrong}."
            raise ValueError(msg)
        pictures = {"refs": self.refs, **{f"images.{name}": refs for name, refs in self.images.items()}}
        for name, refs in pictures.items():
            named[name] = tuple(f"{ref.path}|{ref.frame}|{ref.axis}|{ref.slice}" for ref in refs)
        table_hash = self.table_hash or content_hash(named, self.options)
        filled = {"rows": rows, "ids": ids, "patients": patients, "modalities": modalities}
        for name, value in {**filled, "table_hash": table_hash}.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.refs)

    @cached_property
    def captioned(self) -> NDArray[np.bool_]:
        """Which samples have a caption."""
        return np.array([bool(text) for text in self.texts or ("",) * len(self)], dtype=np.bool_)

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions that there are."""
        return tuple(text for text in self.texts or () if text)

    def take(self, rows: Iterable[int] | np.ndarray) -> "Samples":
        """The samples at these positions (from 0), in this order."""
        chosen = [int(row) for row in rows]
        if chosen == list(range(len(self))):
            return self
        taken, flat = f"{self.table_hash} {chosen}", set(self.flat_rows)

        def pick(column: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(column[row] for row in chosen)

        return replace(
            self,
            refs=tuple(self.refs[row] for row in chosen),
            texts=None if self.texts is None else pick(self.texts),
            ids=pick(self.ids),
            patients=pick(self.patients),
            modalities=pick(self.modalities),
            columns={name: pick(column) for name, column in self.columns.items()},
            images={name: tuple(refs[row] for row in chosen) for name, refs in self.images.items()},
            groups=tuple(self.groups[row] for row in chosen) if self.groups else (),
            rows=tuple(self.rows[row] for row in chosen),
            tables=pick(self.tables) if self.tables else (),
            flat_rows=tuple(row for row in (self.rows[place] for place in chosen) if row in flat),
            table_hash=hashlib.sha256(taken.encode()).hexdigest(),
        )

    def rows_by_table(self, places: Iterable[int]) -> dict[str, list[int]]:
        """The rows at these positions (from 0) by the name of their table, `table` where all are of one."""
        found: dict[str, list[int]] = {}
        for place in places:
            found.setdefault(self.tables[place] if self.tables else "table", []).append(self.rows[place])
        return found

    def skipping(self, lines: Iterable[str], rows: Iterable[int]) -> "Samples":
        """The same samples, which also remember these rows as dropped, and why."""
        dropped = tuple(sorted({*self.skipped_rows, *rows}))
        return replace(self, skipped=(*self.skipped, *lines), skipped_rows=dropped)


def joined(first: Samples, second: Samples, *, tables: tuple[str, str]) -> Samples:
    """The rows of two tables that are decoded alike, as one of images and captions.

    Ids are new ones, `rows` those of the tables that the samples are from, which `tables` names.
    """
    both = (first, second)
    of_rows = [name for name, each in zip(tables, both, strict=True) for _ in each.rows]
    captioned = any(each.texts is not None for each in both)
    texts = tuple(text for each in both for text in each.texts or ("",) * len(each))
    return Samples(
        refs=first.refs + second.refs,
        texts=texts if captioned else None,
        ids=tuple(str(place) for place in range(1, len(first) + len(second) + 1)),
        rows=first.rows + second.rows,
        tables=tuple(of_rows),
        patients=first.patients + second.patients,
        modalities=first.modalities + second.modalities,
        options=first.options,
    )


def row_notes(samples: Samples, table: str) -> tuple[str, ...]:
    """What must be known of the rows of a table beside their numbers; no cell is quoted."""
    noted = {
        "left out as unusable": samples.skipped_rows,
        "shown with at most 3 greys of 16 values or more (`decode.window` may help)": samples.flat_rows,
    }
    return tuple(f"{table}: {what}: {count_rows(rows)}" for what, rows in noted.items() if rows)


def content_hash(columns: Mapping[str, Iterable[str]], options: DecodeOptions) -> str:
    """sha256 over named columns of text and the decoding options; the order of the names does not matter."""
    digest = hashlib.sha256(options.model_dump_json().encode())
    for name in sorted(columns):
        for text in (name, *columns[name]):
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        digest.update(b"\xff" * 8)
    return digest.hexdigest()


def count_rows(rows: Sequence[int]) -> str:
    """`1 row (row 3)`, `7 rows (rows 3, 4, 9, 12, 13 and 2 more)`."""
    return f"{len(rows)} row{'' if len(rows) == 1 else 's'} ({name_rows(rows)})"


def name_rows(rows: Sequence[int], *, noun: str = "row") -> str:
    """`rows 3, 4, 9` for a message; the first five, and how many more."""
    more = f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    return f"{noun}{'s' if len(rows) > 1 else ''} {', '.join(str(row) for row in rows[:_MOST_ROWS])}{more}"
