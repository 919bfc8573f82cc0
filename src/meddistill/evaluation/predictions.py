"""What a model said of a task, row by row: the record that all metrics are computed from, as Parquet."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from meddistill.errors import UserError
from meddistill.evaluation.rank_metrics import DIRECTIONS
from meddistill.files import write_whole

# Part of every fingerprint: raise it when the same task and model give other predictions than before.
RULES_VERSION: Final = 2
_METADATA: Final = b"meddistill"
_KEY_FILE: Final = "id_key"

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClassPredictions:
    """Scores of every class for every row.

    `scores` [n, C] float64 (float32 rounds sure probabilities to 1 and so makes ties), `truth` [n] index into
    `classes`, `rows` the row of the table (from 1), `samples` ids or keyed hashes of them, `patients` numbers
    without meaning outside the suite's run. A task that predicts the same rows several times tells them apart
    by `settings` ("" for the main one) and `seeds`.
    """

    classes: tuple[str, ...]
    truth: Ints
    scores: NDArray[np.float64]
    rows: Ints
    samples: tuple[str, ...]
    patients: Ints
    modalities: tuple[str, ...]
    settings: tuple[str, ...]
    seeds: Ints


@dataclass(frozen=True, kw_only=True)
class RankPredictions:
    """The rank of the best right answer to every query.

    A query that belongs to several patients (a caption that they share) stands once for each of them, with
    `shares` that add up to one. `rows` is the first row of the table that holds the query. `positives`
    counts its right answers. `images` and `texts` are the sizes of the two galleries.
    """

    images: int
    texts: int
    directions: Ints
    ranks: NDArray[np.float64]
    shares: NDArray[np.float64]
    positives: Ints
    rows: Ints
    samples: tuple[str, ...]
    patients: Ints
    modalities: tuple[str, ...]


Predictions = ClassPredictions | RankPredictions


class SampleNames:
    """Ids as they may be written: themselves, or hashes under a key that stays in the evaluation folder.

    Without the key nobody can try out ids against the hashes; delete it to cut the last link.
    """

    def __init__(self, folder: Path, *, examples: bool) -> None:
        self.plain = examples
        self._key = b"" if examples else _key(folder / _KEY_FILE)

    def __call__(self, ids: Sequence[str]) -> tuple[str, ...]:
        if self.plain:
            return tuple(ids)
        encoded = [name.encode("utf-8", "surrogatepass") for name in ids]
        return tuple(hmac.new(self._key, name, hashlib.sha256).hexdigest()[:16] for name in encoded)


def _key(path: Path) -> bytes:
    if path.is_file():
        return path.read_bytes()
    key = secrets.token_bytes(32)
    write_whole(path, key)
    path.chmod(0o600)
    return key


def write_predictions(predictions: Predictions, path: Path, *, fingerprint: str) -> None:
    """Write the dump; a reader sees the old or the new file, never a part."""
    table = (
        _class_table(predictions) if isinstance(predictions, ClassPredictions) else _rank_table(predictions)
    )
    content = {"fingerprint": fingerprint, **_facts(predictions)}
    table = table.replace_schema_metadata({_METADATA: json.dumps(content).encode()})
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_whole(path, buffer.getvalue())


def read_predictions(path: Path, *, fingerprint: str | None = None) -> Predictions | None:
    """The dump at `path`; None if it is absent, or was made under another fingerprint than asked for.

    Raises UserError where the file is no dump.
    """
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[_METADATA])
        if fingerprint is not None and facts["fingerprint"] != fingerprint:
            return None
        return _from_class_table(table, facts) if "classes" in facts else _from_rank_table(table, facts)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"`{path}` must be predictions as evaluation wrote them; it is damaged. Delete it and try again."
        )
        raise UserError(msg) from error


def _facts(predictions: Predictions) -> dict[str, Any]:
    if isinstance(predictions, ClassPredictions):
        return {"classes": list(predictions.classes)}
    return {"images": predictions.images, "texts": predictions.texts}


def _words(values: Sequence[str]) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()


def _identity(predictions: Predictions) -> dict[str, pa.Array]:
    return {
        "sample": pa.array(predictions.samples, pa.string()),
        "row": pa.array(predictions.rows, pa.int64()),
        "patient": pa.array(predictions.patients, pa.int64()),
        "modality": _words(predictions.modalities),
    }


def _class_table(predictions: ClassPredictions) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(predictions.scores, dtype=np.float64).reshape(-1))
    return pa.table(
        {
            **_identity(predictions),
            "setting": _words(predictions.settings),
            "seed": pa.array(predictions.seeds, pa.int64()),
            "truth": _words([predictions.classes[index] for index in predictions.truth]),
            "scores": pa.FixedSizeListArray.from_arrays(flat, len(predictions.classes)),
        }
    )


def _rank_table(predictions: RankPredictions) -> pa.Table:
    return pa.table(
        {
            **_identity(predictions),
            "direction": _words([DIRECTIONS[index] for index in predictions.directions]),
            "share": pa.array(predictions.shares, pa.float64()),
            "rank": pa.array(predictions.ranks, pa.float64()),
            "positives": pa.array(predictions.positives, pa.int64()),
        }
    )


def _common(table: pa.Table) -> dict[str, Any]:
    return {
        "rows": _numbers(table, "row"),
        "samples": tuple(table["sample"].to_pylist()),
        "patients": _numbers(table, "patient"),
        "modalities": tuple(table["modality"].to_pylist()),
    }


def _numbers(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy()


def _from_class_table(table: pa.Table, facts: Mapping[str, Any]) -> ClassPredictions:
    classes = tuple(facts["classes"])
    index = {name: number for number, name in enumerate(classes)}
    flat = table["scores"].combine_chunks().flatten().to_numpy()
    return ClassPredictions(
        classes=classes,
        truth=np.array([index[name] for name in table["truth"].to_pylist()], dtype=np.int64),
        scores=flat.reshape(len(table), len(classes)),
        settings=tuple(table["setting"].to_pylist()),
        seeds=_numbers(table, "seed"),
        **_common(table),
    )


def _from_rank_table(table: pa.Table, facts: Mapping[str, Any]) -> RankPredictions:
    return RankPredictions(
        images=facts["images"],
        texts=facts["texts"],
        directions=np.array(
            [DIRECTIONS.index(name) for name in table["direction"].to_pylist()], dtype=np.int64
        ),
        shares=_numbers(table, "share"),
        ranks=_numbers(table, "rank"),
        positives=_numbers(table, "positives"),
        **_common(table),
    )
