"""Tar shards as columns of text: the fields of each sample's `.json` and its text files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meddistill.data.raw_table import LIST_SEPARATOR, RawTable, as_text
from meddistill.data.shard_index import shard_index
from meddistill.data.shard_links import ShardRefusedError
from meddistill.data.shard_samples import IMAGE, JSON, KEY, ShardSamples, gather
from meddistill.data.threads import thread_map
from meddistill.errors import TableError
from meddistill.file_kinds import unreadable


def read_shards(
    table: Path,
    shards: Sequence[Path],
    wanted: Sequence[str],
    *,
    image: str = IMAGE,
    index: Path | None = None,
    lists: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> RawTable:
    """The wanted columns of tar shards in the WebDataset format, one row a sample.

    The columns are `__key__`, `image`, every kind of file (`txt`, `cls`, `left.png`), and the fields of the
    samples' `.json`; a file's text or a field that a sample lacks is "". Columns in `lists` may hold lists of
    text in the `.json`, which become text separated by LIST_SEPARATOR. The columns `image` and `beside`
    are "" here, for `SampleImages` finds images. `index` is a folder for `shard_index`.

    Broken are samples with a key that an earlier one has, with two files of a kind, without a `.json` where
    one is asked, or with a `.json` that is none, belongs to another key or holds no plain value. Raises
    TableError, subject `table`, for shards that cannot be read.
    """
    samples = gather(shards, _indexed(table, shards, index))
    names = [KEY, IMAGE, *samples.kinds]
    columns: dict[str, Sequence[str]] = {}
    broken = _Broken(samples)
    fields: list[str] = []
    if JSON in samples.kinds and not {*wanted} <= {*names}:
        reader = _JsonFields(samples, wanted=[name for name in wanted if name not in names], lists=lists)
        fields = reader.read(columns, broken)
    _refuse_ambiguous(table, wanted, names=names, fields=fields)
    for name in {*wanted} & {*names}:
        columns[name] = ("",) * len(samples) if name in {IMAGE, image, *beside} else _texts(samples, name)
    return RawTable(
        names=(*names, *fields),
        columns=columns,
        rows=len(samples),
        shards=samples,
        broken=broken.sentences(),
    )


def shards_root(shards: Sequence[Path]) -> Path:
    """The deepest folder that holds all shards."""
    return Path(os.path.commonpath([shard.absolute().parent for shard in shards]))


def _indexed(table: Path, shards: Sequence[Path], folder: Path | None) -> list[pa.Table]:
    def of_one(shard: Path) -> pa.Table | str:
        try:
            return shard_index(shard, folder)
        except ShardRefusedError as refused:
            return f"shard {shard.name}: the file {refused}"
        except OSError as error:
            return f"shard {shard.name}: the file must be readable; got {unreadable(error)}"

    indexes = thread_map(of_one, shards)
    mistakes = [each for each in indexes if isinstance(each, str)]
    if mistakes:
        raise TableError(str(table), mistakes)
    return [each for each in indexes if not isinstance(each, str)]


def _refuse_ambiguous(
    table: Path, wanted: Sequence[str], *, names: Sequence[str], fields: Sequence[str]
) -> None:
    both = [
        f"`{name}`" for name in dict.fromkeys(wanted) if name in names and name in fields and name != IMAGE
    ]
    if both:
        rule = f"`table` must name a column once; got {', '.join(both)} as files and as fields of `.json`"
        raise TableError(str(table), [f"{rule}. Rename one."])


def _texts(samples: ShardSamples, name: str) -> Sequence[str]:
    """The keys, or the text of the files of a kind."""
    if name == KEY:
        return tuple(key.decode("utf-8", "surrogateescape") for key in samples.keys.to_pylist())
    cells = [""] * len(samples)
    files = samples.files(name)
    rows = np.flatnonzero(files >= 0)
    for row, content in zip(rows.tolist(), samples.contents(files[rows]), strict=True):
        cells[row] = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    return tuple(cells)


class _Broken:
    """What is wrong with samples as a whole; keys that stand twice and kinds that do are found here."""

    def __init__(self, samples: ShardSamples) -> None:
        self._sentences: dict[int, list[str]] = {}
        self._find_equal_keys(samples)
        self._find_equal_kinds(samples)

    def add(self, row: int, sentence: str) -> None:
        self._sentences.setdefault(row, []).append(sentence)

    def sentences(self) -> Mapping[int, str]:
        return {row: ". It ".join(sentences) + "." for row, sentences in sorted(self._sentences.items())}

    def _find_equal_keys(self, samples: ShardSamples) -> None:
        if pc.count_distinct(samples.keys).as_py() == len(samples):
            return
        first: dict[bytes, int] = {}
        for row, key in enumerate(samples.keys.to_pylist()):
            other = first.setdefault(key, row)
            if other != row:
                place = f"row {other + 1} ({samples.place(other)})"
                self.add(row, f"must have a key of its own; got that of {place}. Pack it under another name")

    def _find_equal_kinds(self, samples: ShardSamples) -> None:
        lower = np.array([samples.kinds.index(each.lower()) for each in samples.spellings])
        pairs = samples.sample * len(samples.kinds) + lower[samples.kind]
        distinct, counts = np.unique(pairs, return_counts=True)
        for pair, count in zip(distinct[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
            row, code = divmod(pair, len(samples.kinds))
            self.add(row, f"must have one `{samples.kinds[code]}`; got {count}. Pack it once")


class _JsonFields:
    """Fields of the samples' `.json` as columns."""

    def __init__(self, samples: ShardSamples, *, wanted: Sequence[str], lists: Sequence[str]) -> None:
        self._samples = samples
        self._wanted = dict.fromkeys(wanted)
        self._lists = lists

    def read(self, columns: dict[str, Sequence[str]], broken: _Broken) -> list[str]:
        """Fill in the wanted columns that are there; returns the names of all fields."""
        files = self._samples.files(JSON)
        rows = np.flatnonzero(files >= 0)
        names: dict[str, None] = {}
        cells = {name: [""] * len(self._samples) for name in self._wanted}
        for row, content in zip(rows.tolist(), self._samples.contents(files[rows]), strict=True):
            fields = self._object(row, content, broken)
            names.update(dict.fromkeys(fields))
            for name in self._wanted.keys() & fields.keys():
                cells[name][row] = self._cell(row, name, fields[name], broken)
        for row in np.flatnonzero(files == -1).tolist():
            broken.add(
                row, f"must have a `json` like others; got {self._samples.kinds_of(row)}. Pack it anew"
            )
        columns.update({name: tuple(cells[name]) for name in self._wanted if name in names})
        return list(names)

    def _object(self, row: int, content: bytes, broken: _Broken) -> Mapping[str, Any]:
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError):
            broken.add(row, "must hold a `json` that is JSON in UTF-8; it is none. Pack it anew")
            return {}
        if not isinstance(fields, dict):
            broken.add(row, f"must hold one object in `json`; got a {type(fields).__name__}. Pack it anew")
            return {}
        key = self._samples.key(row) if KEY in fields else ""
        if KEY in fields and fields[KEY] not in (key, key.rpartition("/")[2]):
            broken.add(
                row, "must have a `json` of its own; got one with the `__key__` of another. Pack it anew"
            )
        return fields

    def _cell(self, row: int, name: str, value: Any, broken: _Broken) -> str:
        if isinstance(value, list) and name in self._lists and all(isinstance(each, str) for each in value):
            return LIST_SEPARATOR.join(filter(None, value))
        if isinstance(value, list | dict):
            broken.add(
                row, f"must hold one plain value in `{name}`; got {_KINDS_OF[type(value)]}. Choose one"
            )
            return ""
        return as_text(value, None)


_KINDS_OF = {list: "a list", dict: "an object"}
