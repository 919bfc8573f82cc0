"""Exact nearest neighbours by cosine in an index that is two plain files.

```
vectors.npy    float32 [n, d], unit length
index.json     {"format": "meddistill-index", "version": 1, "model": sha256 of the image tower, "names"}
```
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats32, unit_length
from meddistill.bundle_format import Record
from meddistill.errors import BundleError, ConfigError, one_line
from meddistill.file_kinds import unreadable
from meddistill.files import write_whole
from meddistill.runtime.embed import Embedder
from meddistill.runtime.manifest import parse, read_json

_QUERIES_AT_ONCE = 256


class _Header(Record):
    format: Literal["meddistill-index"] = "meddistill-index"
    version: Literal[1] = 1
    model: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Neighbours:
    """For each query its `k` nearest rows `[m, k]`, nearest first, and their cosines `[m, k]`."""

    rows: NDArray[np.int64]
    cosines: NDArray[np.float32]


@dataclass(frozen=True)
class Index:
    """Floats32 with names. Make one with `build` or `load`."""

    vectors: Floats32
    names: tuple[str, ...]
    model: str

    @classmethod
    def build(cls, embedder: Embedder, vectors: Floats32, names: Sequence[str]) -> "Index":
        """An index of vectors `[n, d]` that `embedder` made; they are brought to unit length."""
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ConfigError(
                subject="index", mistakes=[f"`vectors` must be one row a name; got {vectors.shape}."]
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not norms.all():
            raise ConfigError(subject="index", mistakes=["`vectors` must be finite and not zero."])
        unit = np.ascontiguousarray(unit_length(vectors), dtype=np.float32)
        return cls(unit, tuple(names), embedder.image_model)

    def save(self, folder: Path) -> None:
        """Write the two files; `index.json` last, so that an index without it is not one."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.json").unlink(missing_ok=True)
        np.save(folder / "vectors.npy", self.vectors)
        header = _Header(model=self.model, names=self.names)
        write_whole(folder / "index.json", json.dumps(header.model_dump()).encode())

    @classmethod
    def load(cls, folder: Path, embedder: Embedder) -> "Index":
        """Open a saved index by memory map, for queries that `embedder` makes.

        BundleError if it cannot be read, or another bundle or precision made it.
        """
        header = parse(_Header, read_json(folder / "index.json"), folder / "index.json")
        _refuse_another(header.model, embedder, f"`{folder}`")
        try:
            vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            got = unreadable(error) if isinstance(error, OSError) else one_line(error)
            msg = f"`{folder / 'vectors.npy'}` must be a readable array; got {got}. Or build the index again."
            raise BundleError(msg) from error
        expected = (len(header.names), embedder.dim)
        if vectors.shape != expected or vectors.dtype != np.float32:
            got = f"{vectors.dtype} {vectors.shape}"
            rule = f"must hold one row a name, float32 {expected}; got {got}"
            msg = f"`{folder / 'vectors.npy'}` {rule}. Build the index again."
            raise BundleError(msg)
        return cls(vectors, header.names, header.model)

    def neighbours(self, embedder: Embedder, queries: Floats32, *, k: int) -> Neighbours:
        """The `k` nearest rows by cosine of queries `[m, d]` that `embedder` made; equal cosines go by row.

        `k` above the size of the index gives all of it. BundleError if another bundle or precision made the
        index: cosines between vectors of different towers mean nothing.
        """
        _refuse_another(self.model, embedder, "the index")
        if k < 1:
            raise ConfigError(subject="index", mistakes=[f"`k` must be at least 1; got {k}."])
        parts = [
            self._nearest(queries[start : start + _QUERIES_AT_ONCE], min(k, len(self.names)))
            for start in range(0, max(1, len(queries)), _QUERIES_AT_ONCE)
        ]
        return Neighbours(
            np.concatenate([rows for rows, _ in parts]), np.concatenate([cosines for _, cosines in parts])
        )

    def _nearest(self, queries: Floats32, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        cosines = (unit_length(queries) @ self.vectors.T).astype(np.float32)
        # A partition alone could drop the lower of two equal rows at the border; a stable sort keeps order.
        rows = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        return rows, np.take_along_axis(cosines, rows, axis=1)


def _refuse_another(model: str, embedder: Embedder, index: str) -> None:
    if model != embedder.image_model:
        rule = f"must come from this bundle's {embedder.precision} image tower; got another's"
        msg = f"{index} {rule}. Build it again, or ask it with what made it."
        raise BundleError(msg)
