"""CSV, Parquet and `datasets` folders as columns of text; nothing is checked here but the file itself."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from meddistill.data.arrow_files import mapped, parquet_file, why_not_parquet
from meddistill.data.csv_text import MalformedError, Records, fitted, records_of, too_long
from meddistill.data.shard_samples import ShardSamples
from meddistill.errors import TableError, one_line
from meddistill.file_kinds import stand_in, unreadable, why_not_json

_KINDS = "Save it as CSV (UTF-8), as Parquet, or with the `save_to_disk` of Hugging Face `datasets`."
LIST_SEPARATOR = "|"
# Spaces, and further marks of byte order, as tools leave that write one more.
_AROUND_NAMES = " \t\r\n\v\f\u00a0\ufeff"
_XLSX, _PARQUET = b"PK\x03\x04", b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class EmbeddedImage:
    """An image that stands in the table itself; `name` is what its file was called, if that is known."""

    content: bytes
    name: str


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """Columns of a table as text; a blank or missing value is "".

    `names` are all columns of the file, `columns` the wanted ones among them. Bytes that are no UTF-8 are
    kept as lone surrogates (PEP 383) for the reader to report. `lines` are the lines of a CSV on which its
    rows begin. `embedded` holds images by column; a row without one is absent there. `shards` are where the
    rows of a table of tars lie. `broken` says for each malformed row (by index) what is wrong with it.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Sequence[str]]
    rows: int
    lines: tuple[int, ...] | None = None
    embedded: Mapping[str, Mapping[int, EmbeddedImage]] = field(default_factory=dict)
    shards: ShardSamples | None = None
    broken: Mapping[int, str] = field(default_factory=dict)

    def row_name(self, index: int) -> str:
        """`row 3 (line 4)`: rows count from 1 without the header, lines of a CSV from 1 with it.

        In tars, `row 3 (shard 000.tar, sample '0003')`.
        """
        place = "" if self.lines is None else f" (line {self.lines[index]})"
        if self.shards is not None:
            place = f" ({self.shards.place(index)})"
        return f"row {index + 1}{place}"


def read_raw(path: Path, wanted: Sequence[str], *, lists: Sequence[str] = ()) -> RawTable:
    """The wanted columns of the table at `path`; raises TableError for a file that is no such table.

    Columns in `lists` may hold lists of text, which become text separated by LIST_SEPARATOR.
    """
    try:
        if path.is_dir():
            return _from_arrow(path, _joined(_read_datasets_folder(path), lists), wanted)
        if not path.is_file():
            raise _refused(path, "`table` must exist; got no such file. Mend the path.")
        with path.open("rb") as file:
            head = file.read(4096)
        if head.startswith(_PARQUET):
            return _from_arrow(path, _joined(_read_parquet(path, wanted), lists), wanted)
        _refuse_other_kinds(path, head)
        return _read_csv(path, wanted)
    except OSError as error:
        own = error.filename in (None, str(path))
        which = "" if own else f" ({Path(str(error.filename)).name})"
        raise _refused(path, f"`table` must be readable; got {unreadable(error, which=which)}") from None
    except (ValueError, pa.ArrowException) as error:
        raise _refused(path, f"`table` must be readable; got {why_not_parquet(path, error)}") from None


def _refused(path: Path, mistake: str) -> TableError:
    return TableError(str(path), [mistake])


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    instead = stand_in(head, size=path.stat().st_size)
    if head and instead is not None:
        raise _refused(path, f"`table` must be the table itself; got {instead}")
    got = None
    if not head:
        got = "0 bytes"
    elif head.startswith(_XLSX):
        got = "a spreadsheet or another zip archive"
    elif head.startswith(_UTF16):
        got = "UTF-16 or UTF-32"
    elif b"\0" in head:
        got = "binary data"
    if got is not None:
        raise _refused(path, f"`table` must be a table as text or Parquet; got {got}. {_KINDS}")


def _read_csv(path: Path, wanted: Sequence[str]) -> RawTable:
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    signs = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
    try:
        parsed = records_of(text, wanted, signs=signs)
    except MalformedError as error:
        rule = f"be well-formed CSV; the record that begins on line {error.line} is not ({error})"
        raise _refused(path, f"`table` must {rule}. Quote cells as a spreadsheet program does.") from None
    if not parsed.records:
        raise _refused(path, "`table` must have a header row; got no rows. Write the names of the columns.")
    header = [name.strip(_AROUND_NAMES) for name in parsed.records[0]]
    _refuse_repeated(path, header, wanted)
    return _from_records(header, parsed, wanted)


def _from_records(header: Sequence[str], parsed: Records, wanted: Sequence[str]) -> RawTable:
    width, records = len(header), parsed.records[1:]
    rows = [fitted(record, width) for record in records]
    broken = {
        index: too_long(records[index], width, parsed.sign) for index, row in enumerate(rows) if row is None
    }
    places = {name: header.index(name) for name in dict.fromkeys(wanted) if name in header}
    columns = {
        name: tuple("" if row is None else row[place] for row in rows) for name, place in places.items()
    }
    return RawTable(
        names=tuple(header), columns=columns, rows=len(rows), lines=parsed.lines[1:], broken=broken
    )


def _refuse_repeated(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    repeated = [name for name in dict.fromkeys(wanted) if names.count(name) > 1]
    if repeated:
        listed = ", ".join(f"`{name}`" for name in repeated)
        raise _refused(path, f"`table` must name a column once; got {listed} more than once. Rename one.")


def _read_parquet(path: Path, wanted: Sequence[str]) -> pa.Table:
    file = parquet_file(path)
    names = list(file.schema_arrow.names)
    _refuse_repeated(path, names, wanted)
    table = file.read(columns=[name for name in dict.fromkeys(wanted) if name in names])
    return table.replace_schema_metadata({**(file.schema_arrow.metadata or {}), b"names": json.dumps(names)})


def _read_datasets_folder(path: Path) -> pa.Table:
    splits, state = path / "dataset_dict.json", path / "state.json"
    if splits.is_file():
        names = ", ".join(f"`{path / str(name)}`" for name in _entry(splits, "splits"))
        raise _refused(path, f"`table` must be one split; got a folder of splits. Choose one of {names}.")
    if not state.is_file():
        raise _refused(path, f"`table` must be a table; got a folder without `state.json`. {_KINDS}")
    if _entry(state, "_indices_data_files", needed=False):
        rule = "`state.json` must list no `_indices_data_files`; got rows that were picked but not copied"
        raise _refused(path, f"{rule}. Save it again with a newer `datasets`.")
    files = [
        str(each.get("filename", "") if isinstance(each, dict) else "")
        for each in _entry(state, "_data_files")
    ]
    if not files:
        raise _refused(path, "`table` must have rows; got a dataset without any. Add rows.")
    if any(Path(name).name != name or not name for name in files):
        raise _refused(path, "`state.json` must list files of its own folder. Save the dataset again.")
    return pa.concat_tables([_read_stream(path / name) for name in files])


def _read_stream(file: Path) -> pa.Table:
    try:
        return pa.ipc.open_stream(mapped(file)).read_all()
    except (ValueError, pa.ArrowException) as error:
        rule = f"`{file.name}` must be an Arrow stream that can be read; got {one_line(error)}"
        raise _refused(file.parent, f"{rule}. Save the dataset again.") from None


def _entry(file: Path, key: str, *, needed: bool = True) -> list[Any]:
    """The list under `key` of a `datasets` folder's JSON file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        rule = f"`{file.name}` must be JSON; got {why_not_json(file, error).what}"
        raise _refused(file.parent, f"{rule}. Save the dataset again.") from None
    entry = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entry, list) and (needed or entry is not None):
        raise _refused(file.parent, f"`{file.name}` must list `{key}`; it does not. Save it again.")
    return entry or []


def _joined(table: pa.Table, lists: Sequence[str]) -> pa.Table:
    """The table with those of the columns `lists` that hold lists of text as text."""
    for place, field_ in enumerate(table.schema):
        kind = field_.type
        if field_.name not in lists or not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            continue
        if pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type):
            cells = [
                LIST_SEPARATOR.join(filter(None, cell or ())) for cell in table.column(place).to_pylist()
            ]
            table = table.set_column(place, field_.name, pa.array(cells, pa.large_string()))
    return table


def _from_arrow(path: Path, table: pa.Table, wanted: Sequence[str]) -> RawTable:
    metadata = table.schema.metadata or {}
    names = tuple(json.loads(metadata[b"names"])) if b"names" in metadata else tuple(table.schema.names)
    _refuse_repeated(path, names, wanted)
    labels = _class_names(metadata)
    columns: dict[str, Sequence[str]] = {}
    embedded: dict[str, dict[int, EmbeddedImage]] = {}
    for name in dict.fromkeys(wanted):
        if name not in names:
            continue
        values = _values(path, name, table.column(name))
        if any(isinstance(value, EmbeddedImage) for value in values):
            embedded[name] = {
                row: value for row, value in enumerate(values) if isinstance(value, EmbeddedImage)
            }
        columns[name] = tuple(as_text(value, labels.get(name)) for value in values)
    return RawTable(names=names, columns=columns, rows=table.num_rows, embedded=embedded)


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The class names that `datasets` keeps beside integer labels."""
    if b"huggingface" not in metadata:
        return {}
    features = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {})
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _values(path: Path, name: str, column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Arrow's own conversion stops at the first byte that is no UTF-8; all of them are to be reported.
        column = column.cast(pa.large_binary())
        return [_decoded(value) for value in column.to_pylist()]
    if pa.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}:
        return [_image(value) for value in column.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else EmbeddedImage(value, "") for value in column.to_pylist()]
    if pa.types.is_nested(kind):
        raise _refused(
            path, f"`{name}` must hold one plain value a row; got {kind}. Write one row per value."
        )
    return column.to_pylist()


def _decoded(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="surrogateescape")


def _image(value: Mapping[str, Any] | None) -> EmbeddedImage | str | None:
    if value is None:
        return None
    if value["bytes"] is not None:
        return EmbeddedImage(value["bytes"], value["path"] or "")
    return value["path"]


def as_text(value: Any, labels: Sequence[str] | None) -> str:
    """A cell as text; a whole float loses its `.0`, so that an id that pandas widened equals its CSV form."""
    if value is None or isinstance(value, EmbeddedImage):
        return ""
    if isinstance(value, int) and labels is not None:
        return labels[value] if 0 <= value < len(labels) else ""
    if isinstance(value, float):
        if value != value:
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    return str(value)
