"""Several processes that want the same rows at once; `main` prints, as JSON, how many each asked for.

Forked from a process without threads.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meddistill.data.keys import text_key
from meddistill.evaluation.models.cached_output import CachedOutput, ComputedRows
from meddistill.licences import KNOWN
from meddistill.teachers.card import TeacherCard

CARD = TeacherCard(
    id="model", kind="python", source="tests", library="tests 1", weights_sha256="0" * 64,
    licence=KNOWN["own"], signals=frozenset({"text"}), parameters=0,
)  # fmt: skip


class CountedModel:
    """Answers with the number of the text, and counts."""

    def __init__(self, texts: Sequence[str], *, dies_after: int | None = None) -> None:
        self.texts, self.counted, self._dies_after = texts, 0, dies_after

    def __call__(self, positions: Sequence[int]) -> ComputedRows:
        if self._dies_after is not None and self.counted >= self._dies_after:
            raise KeyboardInterrupt
        self.counted += len(positions)
        numbers = [float(self.texts[position].split()[1]) for position in positions]
        return ComputedRows(values=np.array([[number, 1.0] for number in numbers], dtype=np.float32))


def rows_in(folder: Path, shard_rows: int = 4) -> CachedOutput:
    return CachedOutput(folder, "text", card=CARD, dtype="float32", shard_rows=shard_rows)


def read(
    rows: CachedOutput, texts: Sequence[str], model_call: CountedModel | None = None
) -> tuple[list[float], int]:
    model_call = model_call or CountedModel(texts)
    found = rows.read([text_key(text) for text in texts], model_call)
    return found.values[:, 0].tolist(), model_call.counted


def main(store: Path, count: int) -> None:
    texts = [f"text {number}" for number in range(200)]
    children = []
    for _ in range(count):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            values, asked = read(rows_in(store), texts)
            assert values == list(range(200))
            os.write(writing, str(asked).encode())
            os._exit(0)
        os.close(writing)
        children.append((pid, reading))
    found = []
    for pid, reading in children:
        assert os.waitpid(pid, 0)[1] == 0
        found.append(int(os.read(reading, 20)))
    sys.stdout.write(json.dumps(found))
