"""What a model said of a task, row by row: the record that all metrics are computed from."""

import hashlib
import hmac
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.exhibits import AnyExhibit
from meddistill.evaluation.base.score import Score
from meddistill.files import write_whole

_KEY_FILE: Final = "id_key"
_GROUP: Final = "group:"

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of rows [n]: those that `hit` among the `relevant` ones."""

    relevant: NDArray[np.bool_]
    hit: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Whether a model is right on each row [n] of a task's main setting; a tie for the answer is wrong."""

    rows: Ints
    patients: Ints
    right: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Predictions(ABC):
    """One model's answers to one task.

    `rows` [n] are rows of the table (from 1), `samples` keyed hashes of their ids, `patients` numbers
    without meaning outside the suite's run, `modalities` "" where not known; `groups` [n] each, "" where not
    known, by the name of the group. A family adds its own columns, and knows the numbers that follow from
    them.
    """

    kind: ClassVar[str]

    rows: Ints
    samples: tuple[str, ...]
    patients: Ints
    modalities: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @abstractmethod
    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics on all rows, and the main metric on the rows of every modality."""

    @property
    def tested(self) -> NDArray[np.bool_]:
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

    def lacks(self, mask: NDArray[np.bool_]) -> str:  # noqa: ARG002
        """What a reader must know of the main metric on some rows, such as a class without any; else ""."""
        return ""

    def decisions(self) -> Decisions | None:
        """One decision a row, right or wrong, for McNemar's test; None where the family makes none."""
        return None

    def take(self, mask: NDArray[np.bool_]) -> Self:
        """The predictions of some rows, by the way that the dump goes."""
        facts = json.loads(json.dumps(dict(self.facts())))
        return type(self).from_table(self.to_table().filter(pa.array(mask)), facts)

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
        identity = {
            "rows": numbers(table, "row"),
            "samples": tuple(table["sample"].to_pylist()),
            "patients": numbers(table, "patient"),
            "modalities": tuple(table["modality"].to_pylist()),
            "groups": {name.removeprefix(_GROUP): tuple(table[name].to_pylist()) for name in groups},
        }
        return cls.from_columns(table, facts, identity)

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What is not said row by row, as plain values."""

    @abstractmethod
    def columns(self) -> Mapping[str, pa.Array]:
        """The family's own columns."""

    @classmethod
    @abstractmethod
    def from_columns(cls, table: pa.Table, facts: Mapping[str, Any], identity: Mapping[str, Any]) -> Self:
        """The record again, from its columns and facts; `identity` holds the fields of this class."""


class SampleNames:
    """Ids as they may be written: hashes under a key that stays in the evaluation folder.

    Without the key nobody can try out ids against the hashes; delete it to cut the last link. `examples` says
    whether pictures of what was judged may be written. Without a folder there is no key: for predictions that
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


def words(values: Sequence[str]) -> pa.Array:
    """A column of strings that repeat."""
    return pa.array(values, pa.string()).dictionary_encode()


def numbers(table: pa.Table, name: str) -> Any:
    """A column of numbers as an array."""
    return table[name].to_numpy()


def lists(matrix: NDArray[Any]) -> pa.Array:
    """A column of lists of equal length, the rows of a matrix."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def matrix(table: pa.Table, name: str) -> NDArray[Any]:
    """A column of lists of equal length as a matrix again."""
    flat: NDArray[Any] = table[name].combine_chunks().flatten().to_numpy()
    return flat.reshape(len(table), table[name].type.list_size)


def by_hash(task: str, row: int) -> str:
    """What rows are sorted by so that their order has no meaning."""
    return hashlib.sha256(f"{task} {row}".encode()).hexdigest()
