"""Random batches of 256 rows of nine teachers and two towers: the feature store against bare memory maps."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.linear_teacher import load_linear_teachers
from benchmarks.measure import Measurement, interleaved, seconds
from benchmarks.phantom_pairs import phantom_pairs
from meddistill.features.config import ExtractOptions
from meddistill.features.extract import extract
from meddistill.features.reader import FeatureStore
from meddistill.signals import Signal

LIMIT = 0.8
IMAGES, TEACHERS, DIM = 4096, 9, 512
# Eight shards an output, so that a batch gathers from all of them.
SHARD_ROWS = 512
BATCH, BATCHES, ROUNDS = 256, 50, 9
TOWERS: tuple[Signal, ...] = ("image", "text")


def run() -> list[Measurement]:
    """The store's rate over that of `numpy.memmap[rows]` on the same numbers, both in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        names = [(teacher, tower) for teacher in store.teachers for tower in TOWERS]
        sizes = {"image": store.manifest.rows("images"), "text": store.manifest.rows("texts")}
        maps = {}
        for teacher, tower in names:
            values = store.read(teacher, tower, np.arange(sizes[tower]))
            maps[teacher, tower] = _memmap(values, Path(folder) / f"{teacher}-{tower}.npy")
        random = np.random.default_rng(0)
        batches = [
            {tower: random.integers(0, rows, BATCH) for tower, rows in sizes.items()} for _ in range(BATCHES)
        ]

        def bare() -> None:
            for rows in batches:
                for name in names:
                    maps[name][rows[name[1]]]

        def stored() -> None:
            for rows in batches:
                for teacher, tower in names:
                    store.read(teacher, tower, rows[tower])

        ratio = interleaved(bare, stored, rounds=ROUNDS)
        rate = BATCH * BATCHES / seconds(stored)
    what = f"store: batches of {BATCH} random rows, {TEACHERS} teachers, two towers, against bare memory maps"
    return [
        Measurement(
            what=what, value=f"{ratio:.2f} ({rate:,.0f} rows/s)", limit=f">= {LIMIT}", holds=ratio >= LIMIT
        )
    ]


def _store(folder: Path) -> FeatureStore:
    samples = phantom_pairs(folder, IMAGES)
    teachers = load_linear_teachers(TEACHERS, dim=DIM)
    return extract(folder / "store", samples, teachers, ExtractOptions(shard_rows=SHARD_ROWS))


def _memmap(values: np.ndarray, path: Path) -> np.ndarray:
    """The same numbers as one array in one file."""
    np.save(path, values)
    return np.load(path, mmap_mode="r")
