"""Bytes that a pair takes with nine teachers and two towers, and what eight bits change in the directions."""

import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.linear_teacher import load_linear_teachers
from benchmarks.measure import Measurement
from benchmarks.phantom_pairs import phantom_pairs
from meddistill.data.samples import Samples
from meddistill.features.config import ExtractOptions, StoredPrecision
from meddistill.features.extract import extract
from meddistill.features.reader import FeatureStore
from meddistill.signals import Signal

IMAGES, TEACHERS, DIM = 1024, 9, 512
LEAST_COSINE: Final = 0.999
_NUMBERS: Final = TEACHERS * 2 * DIM
# int8 has 4 more bytes a row for the scale; headers and scales stay under a hundredth of float16.
_LIMITS: Final[dict[StoredPrecision, int]] = {"float16": _NUMBERS * 2, "int8": _NUMBERS + TEACHERS * 2 * 4}
_SLACK: Final = 1.01
_TOWERS: Final[tuple[Signal, ...]] = ("image", "text")


def run() -> list[Measurement]:
    """Both precisions of the same features."""
    with tempfile.TemporaryDirectory() as folder:
        samples = phantom_pairs(Path(folder), IMAGES)
        stores = {name: _store(Path(folder) / name, samples, name) for name in _LIMITS}
        found = [_size(name, store) for name, store in stores.items()]
        least = min(_least_cosine(stores, teacher) for teacher in stores["int8"].teachers)
    return [
        *found,
        Measurement(
            what=f"store: least cosine between int8 and float16 of {TEACHERS} teachers, {DIM} dims",
            value=f"{least:.5f}",
            limit=f">= {LEAST_COSINE}",
            holds=least >= LEAST_COSINE,
        ),
    ]


def _store(path: Path, samples: Samples, precision: StoredPrecision) -> FeatureStore:
    teachers = load_linear_teachers(TEACHERS, dim=DIM)
    return extract(path, samples, teachers, ExtractOptions(precision=precision))


def _size(precision: StoredPrecision, store: FeatureStore) -> Measurement:
    """A pair of one image and one text; captions that several images share would take less."""
    outputs = [store.outputs(teacher)[tower] for teacher in store.teachers for tower in _TOWERS]
    size = sum(each.bytes / (each.stop - each.start) for output in outputs for each in output.shards[:1])
    limit = _LIMITS[precision] * _SLACK
    return Measurement(
        what=f"store: bytes a pair in {precision}, {TEACHERS} teachers, two towers of {DIM} dims",
        value=f"{size:,.0f}",
        limit=f"<= {limit:,.0f}",
        holds=size <= limit,
    )


def _least_cosine(stores: dict[StoredPrecision, FeatureStore], teacher: str) -> float:
    rows = np.arange(IMAGES)
    one, other = (
        store.read(teacher, "image", rows).astype(np.float64) for store in (stores["float16"], stores["int8"])
    )
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((np.einsum("ij,ij->i", one, other) / norms).min())
