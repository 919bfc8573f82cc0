"""A table on disk as `Samples`; every mistake of it in one error."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from meddistill.data.config import TableConfig
from meddistill.data.paths import ImageFolder, shown
from meddistill.data.patients import with_patients
from meddistill.data.raw_table import RawTable, read_raw
from meddistill.data.rows import Row, RowChecks
from meddistill.data.samples import UNKNOWN_PATIENT, Samples, content_hash
from meddistill.data.shard_files import find_shards
from meddistill.data.shard_samples import SampleImages
from meddistill.data.shards import read_shards, shards_root
from meddistill.data.unpack import unpack
from meddistill.errors import TableError, did_you_mean
from meddistill.imaging import FilePart, ImageFile, ImageRef

_MOST_VALUES = 8
SKIPPING = "Mend these rows, or write `on_error: skip` beside this `table` to leave them out, counted."


def read_table(
    config: TableConfig,
    *,
    base: Path,
    columns: Sequence[str] = (),
    lists: Sequence[str] = (),
    images: Sequence[str] = (),
) -> Samples:
    """The rows of a table that `config.where` keeps, checked.

    `config.table`, `root` and `unpack` are relative to `base`; `columns` are further columns to keep, as
    text, of which `table_hash` knows nothing; those of them in `lists` may hold lists, kept as text with
    LIST_SEPARATOR between. `images` are
    columns of images beside the row's own, found like it and under the same selectors. Rows are refused
    for a malformed record, bytes that are no UTF-8, an image that is missing or outside the root, an empty
    caption (but of a table to learn from), a blank or repeated id, a blank patient, a selector that is no
    whole number.
    Damaged images show at decoding; `read_readable` finds them as well.

    Raises TableError with one line for every mistake, or, under `on_error: skip`, when no row is left.
    """
    path = base / config.table
    beside = {f"images.{name}": name for name in images}
    named = config.named_columns | {f"columns.{name}": name for name in columns} | beside
    wanted = list(named.values())
    raw = _joined(_read(config, base, wanted, lists=lists, beside=images), config, base, wanted)
    _check_columns(path, raw, named)
    indices = _selected(path, raw, config.where)
    root = _root(path, raw, config, base)
    find = {
        role: _finder(path, raw, config, column, base=base, root=root, indices=indices)
        for role, column in {"image": config.image, **beside}.items()
    }
    checks = RowChecks(raw, find, blank_captions=config.blank_captions)
    rows = [Row(raw, index, named) for index in indices]
    for row in rows:
        checks.check(row)
    lines = tuple(f"{raw.row_name(row.index)}: {mistake}" for row in rows for mistake in row.mistakes)
    good = [row for row in rows if not row.mistakes]
    if lines and (config.on_error == "raise" or not good):
        raise TableError(str(path), lines, remedy=SKIPPING if good else None)
    samples = _samples(good, config, root=root.resolve(), columns=columns, images=images)
    return samples.skipping(lines, (row.index + 1 for row in rows if row.mistakes))


def _read(
    config: TableConfig, base: Path, wanted: Sequence[str], *, lists: Sequence[str], beside: Sequence[str]
) -> RawTable:
    path, shards = base / config.table, find_shards(config.table, base=base)
    if shards is None:
        return read_raw(path, wanted, lists=lists)
    index = None if config.index is None else base / config.index
    return read_shards(path, shards, wanted, image=config.image, index=index, lists=lists, beside=beside)


def _joined(raw: RawTable, config: TableConfig, base: Path, wanted: Sequence[str]) -> RawTable:
    if config.patients is None or config.patient is None:
        return raw
    return with_patients(raw, config.patients, base=base, patient=config.patient, wanted=wanted)


def _check_columns(path: Path, raw: RawTable, named: Mapping[str, str]) -> None:
    mistakes = []
    for role, name in named.items():
        if name not in raw.names:
            hint = did_you_mean(name, raw.names) or " Name one of them."
            has = ", ".join(f"`{shown(each)[1:-1]}`" for each in raw.names)
            role_name = role.removeprefix("images.")
            must = f"`{role_name}` must name a column; got `{name}`, the table"
            if role.startswith("columns."):
                must = f"`{name}` must be a column, for a stage, a task, its `where` or `groups` names it; "
                must += "the table"
            mistakes.append(f"{must} has {has}.{hint}")
    if mistakes:
        raise TableError(str(path), mistakes)
    if not raw.rows:
        got = "a header alone" if raw.shards is None else "no samples"
        raise TableError(str(path), [f"`table` must have rows; got {got}. Add rows."])


def _selected(path: Path, raw: RawTable, where: Mapping[str, str | list[str]]) -> list[int]:
    """Rows that `where` keeps; malformed ones always, for nothing can be said of their cells."""
    keep = [True] * raw.rows
    mistakes = []
    for column, wanted in where.items():
        allowed = {wanted} if isinstance(wanted, str) else set(wanted)
        cells = [cell.strip() for cell in raw.columns[column]]
        absent = allowed.difference(cells)
        if absent or not allowed:
            mistakes.append(_never_occurs(column, absent, cells))
        keep = [kept and cell in allowed for kept, cell in zip(keep, cells, strict=True)]
    if mistakes:
        raise TableError(str(path), mistakes)
    if not any(keep):
        raise TableError(str(path), ["`where` must keep some rows; no row has all its values. Widen it."])
    return [index for index in range(raw.rows) if keep[index] or index in raw.broken]


def _never_occurs(column: str, absent: set[str], cells: Sequence[str]) -> str:
    present = sorted(set(cells))
    more = len(present) - _MOST_VALUES
    there = ", ".join(shown(cell) for cell in present[:_MOST_VALUES]) + (
        f" and {more} more" if more > 0 else ""
    )
    got = ", ".join(shown(cell) for cell in sorted(absent)) or "none"
    return f"`where.{column}` must be values that occur; got {got}. The column holds {there}."


def _root(path: Path, raw: RawTable, config: TableConfig, base: Path) -> Path:
    if raw.shards is not None:
        return shards_root(raw.shards.shards)
    if config.root is None:
        return path if path.is_dir() else path.parent
    root = base / config.root
    if not root.is_dir():
        raise TableError(str(path), [f"`root` must be a folder; got `{root}`. Mend the path."])
    return root


def _finder(
    path: Path,
    raw: RawTable,
    config: TableConfig,
    column: str,
    *,
    base: Path,
    root: Path,
    indices: Sequence[int],
) -> Callable[[int, str], ImageFile]:
    """What finds the image of a row that `column` names: in its tar, in the table, or under the root."""
    if raw.shards is not None:
        images = SampleImages(raw.shards, column)
        return lambda index, _: images.find(index)
    unpacked = _unpacked(path, raw, config, column, base=base, indices=indices)
    folder = ImageFolder(root)
    return lambda index, cell: unpacked[index] if index in unpacked else folder.find(cell)


def _unpacked(
    path: Path, raw: RawTable, config: TableConfig, column: str, *, base: Path, indices: Sequence[int]
) -> dict[int, Path]:
    images = raw.embedded.get(column, {})
    if not images:
        return {}
    if config.unpack is None:
        rule = f"`unpack` must name a folder, for `{column}` holds {len(images)} images themselves"
        raise TableError(str(path), [f"{rule}; got none. The images are written there as files, once."])
    return unpack(images, base / config.unpack, rows=indices)


def _samples(
    rows: Sequence[Row], config: TableConfig, *, root: Path, columns: Sequence[str], images: Sequence[str]
) -> Samples:
    refs = tuple(row.ref for row in rows if row.ref is not None)
    beside = {name: tuple((row.others or {})[f"images.{name}"] for row in rows) for name in images}
    places = tuple(_place(ref, root) for ref in refs)

    def column(role: str, otherwise: Callable[[int], str]) -> tuple[str, ...]:
        return tuple(row.cell(role) if row.has(role) else otherwise(i) for i, row in enumerate(rows))

    captions = tuple(row.cell("text") for row in rows)
    texts = captions if any(captions) else None
    ids = column("id", lambda i: str(rows[i].index + 1))
    patients = column("patient", lambda i: UNKNOWN_PATIENT + _short_hash(places[i]))
    modalities = column("modality", lambda _: "")
    others = {name: tuple(row.cell(f"columns.{name}") for row in rows) for name in columns}
    hashed = {
        "refs": places,
        "texts": texts or (),
        "ids": ids,
        "patients": patients,
        "modalities": modalities,
    }
    hashed |= {f"images.{name}": tuple(_place(ref, root) for ref in beside[name]) for name in images}
    return Samples(
        refs=refs,
        texts=texts,
        ids=ids,
        patients=patients,
        modalities=modalities,
        columns=others,
        images=beside,
        rows=tuple(row.index + 1 for row in rows),
        options=config.decode,
        table_hash=content_hash(hashed, config.decode),
    )


def _place(ref: ImageRef, root: Path) -> str:
    """Which image, in words that do not depend on where the root lies."""
    file, part = (ref.path.whole, f"|{ref.path.name}") if isinstance(ref.path, FilePart) else (ref.path, "")
    return f"{_inside(file, root)}{part}|{ref.frame}|{ref.axis}|{ref.slice}"


@lru_cache(maxsize=1024)
def _inside(file: Path, root: Path) -> str:
    path = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
    return path.as_posix()


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
