"""What a model said of a task, row by row: the record that all metrics are computed from."""

import hashlib
import hmac
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from meddistill.arrays import Flags, Ints, Places
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.columns import FactReaders, Layout, words
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.score import Score
from meddistill.files import write_whole

_KEY_FILE: Final = "id_key"
_GROUP: Final = "group:"


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of rows [n]: those that `hit` among the `relevant` ones."""

    relevant: Flags
    hit: Flags


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Whether a model is right on each row [n] of a task's main setting; a tie for the answer is wrong."""

    rows: Ints
    patients: Ints
    right: Flags


@dataclass(frozen=True, kw_only=True)
class Predictions(ABC):
    """One model's answers to one task.

    `rows` [n] are rows of the table (from 1), `samples` keyed hashes of their ids, `patients` numbers
    without meaning outside the suite's run, `modalities` "" where not known; `groups` [n] each, "" where not
    known, by the name of the group. A family adds its own columns, and knows the numbers that follow from
    them.

    `layout` has the column of every attribute of the family's rows, `fact_readers` what reads the plain
    value of each field that has no entry a row.
    """

    kind: ClassVar[str]
    layout: ClassVar[Layout]
    fact_readers: ClassVar[FactReaders] = {}

    rows: Ints
    samples: tuple[str, ...]
    patients: Ints
    modalities: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @abstractmethod
    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics on all rows, and the main metric on the rows of every modality."""

    @property
    def tested(self) -> Flags:
        """Which rows are of the tested table; those that thresholds were fitted on have negative numbers."""
        return self.rows > 0

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:  # noqa: ARG002
        """What the report draws of these predictions, beside the numbers; nothing unless a family says so."""
        return ()

    def warnings(self) -> tuple[str, ...]:
        """What a reader of these predictions' numbers has to know beside them; none by default."""
        return ()

    def main_score(self, resampler: Resampler) -> Score | None:
        """The main metric on all rows; a family may compute it without the others."""
        return next((score for score in self.metrics(resampler) if score.main), None)

    def rates(self) -> Mapping[str, Rate]:
        """Rates at a fixed operating point, by name, whose gaps between groups are told; none by default."""
        return {}

    def missing_in(self, mask: Flags) -> str:  # noqa: ARG002
        """What a reader must know of the main metric on some rows, such as a class without any; else ""."""
        return ""

    def decisions(self) -> Decisions | None:
        """One decision a row, right or wrong, for McNemar's test; None where the family makes none."""
        return None

    def take(self, kept: NDArray[Any]) -> Self:
        """The predictions of some rows, by a mask or by their places."""
        places: Places = np.flatnonzero(kept) if kept.dtype == bool else kept
        by_row = [each.name for each in fields(self) if each.name not in self.fact_readers]
        own = {name: getattr(self, name) for name in by_row}
        groups = {name: _taken(labels, places) for name, labels in own.pop("groups").items()}
        return replace(self, groups=groups, **{name: _taken(each, places) for name, each in own.items()})

    def to_table(self) -> pa.Table:
        """All columns, those of this class first."""
        identity = {
            "sample": pa.array(self.samples, pa.string()),
            "row": pa.array(self.rows, pa.int64()),
            "patient": pa.array(self.patients, pa.int64()),
            "modality": words(self.modalities),
        }
        groups = {f"{_GROUP}{name}": words(labels) for name, labels in self.groups.items()}
        return pa.table({**identity, **groups, **self.columns()})

    @classmethod
    def from_table(cls, table: pa.Table, facts: Mapping[str, Any]) -> Self:
        """The record again, from `to_table()` and `facts()`."""
        groups = [name for name in table.column_names if name.startswith(_GROUP)]
        return cls(
            rows=table["row"].to_numpy(),
            samples=tuple(table["sample"].to_pylist()),
            patients=table["patient"].to_numpy(),
            modalities=tuple(table["modality"].to_pylist()),
            groups={name.removeprefix(_GROUP): tuple(table[name].to_pylist()) for name in groups},
            **cls.own_fields(table, facts),
        )

    def facts(self) -> Mapping[str, Any]:
        """What is not said row by row, as plain values."""
        return {name: _plain(getattr(self, name)) for name in self.fact_readers}

    def columns(self) -> Mapping[str, pa.Array]:
        """The family's own columns."""
        return {each.name: each.write(getattr(self, field)) for field, each in self.layout.items()}

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The family's own fields again, from its columns and facts."""
        told = {name: read(facts[name]) for name, read in cls.fact_readers.items()}
        return {**told, **{field: each.read(table[each.name]) for field, each in cls.layout.items()}}


def as_it_is(value: Any) -> Any:
    """A fact whose plain value is the field's."""
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def _taken(values: Any, places: Places) -> Any:
    """The entries at `places` of a field; one that is empty or None stays so."""
    if isinstance(values, np.ndarray):
        return values[places]
    return tuple(values[place] for place in places) if values else values


class SampleNames:
    """Ids as they may be written: hashes under a key that stays in the evaluation folder.

    Without the key nobody can try out ids against the hashes; delete it to cut the last link. `examples` says
    whether pictures of tested rows may be written. Without a folder there is no key: for predictions that
    nobody writes.
    """

    def __init__(self, folder: Path | None, *, examples: bool) -> None:
        self.examples = examples
        self._folder = folder

    @cached_property
    def _key(self) -> bytes:
        return b"" if self._folder is None else _key(self._folder / _KEY_FILE)

    def __call__(self, ids: Sequence[str]) -> tuple[str, ...]:
        encoded = [name.encode("utf-8", "surrogatepass") for name in ids]
        return tuple(hmac.new(self._key, name, hashlib.sha256).hexdigest()[:16] for name in encoded)


def _key(path: Path) -> bytes:
    if path.is_file():
        return path.read_bytes()
    key = secrets.token_bytes(32)
    write_whole(path, key)
    path.chmod(0o600)
    return key


def by_hash(task: str, row: int) -> str:
    """What rows are sorted by so that their order has no meaning."""
    return hashlib.sha256(f"{task} {row}".encode()).hexdigest()
