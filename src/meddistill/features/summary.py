"""What a feature store holds, in figures; for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from meddistill.features.config import StoredPrecision
from meddistill.features.reader import FeatureStore, table_of
from meddistill.features.statistics import QUANTILES
from meddistill.signals import Signal


@dataclass(frozen=True, kw_only=True)
class OutputSummary:
    """One output. `rows` are there of `rows_expected`. The statistics are None until all rows are there.

    `norm_mean` and `norm_median` are of |x|₂; `effective_rank` is that of the covariance, from 1 to the dim.
    """

    name: Signal
    rows: int
    rows_expected: int
    shape: tuple[int, ...]
    views: int
    precision: StoredPrecision
    bytes: int
    norm_mean: float | None = None
    norm_median: float | None = None
    effective_rank: float | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherSummary:
    """One teacher. `covered_images` counts the images of modalities that it knows."""

    id: str
    source: str
    licence: str
    fingerprint: str
    modalities: tuple[str, ...] | None
    covered_images: int
    outputs: tuple[OutputSummary, ...]


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """A whole store. `bytes` counts the files that its manifests name and the copies of tables.

    `pair_bytes`: what all teachers take for one image (all its views) and one text, tables not counted.
    """

    images: int
    texts: int
    pairs: int
    views: int
    bytes: int
    pair_bytes: float
    modalities: Mapping[str, int]
    roles: Mapping[str, int]
    teachers: tuple[TeacherSummary, ...]


def summarize(store: FeatureStore) -> StoreSummary:
    """Figures of a store, from its manifests, tables and statistics; no features are read."""
    manifest = store.manifest
    tables = sum(2 * piece.bytes for pieces in manifest.segments.values() for piece in pieces)
    features = sum(file.bytes for name in store.teachers for file in store.files(name))
    teachers = tuple(_teacher(store, name) for name in store.teachers)
    return StoreSummary(
        images=manifest.rows("images"),
        texts=manifest.rows("texts"),
        pairs=manifest.rows("pairs"),
        views=store.views,
        bytes=tables + features,
        pair_bytes=sum(output.bytes / max(1, output.rows) for each in teachers for output in each.outputs),
        modalities=_counts(store, "modality"),
        roles=_counts(store, "role"),
        teachers=teachers,
    )


def _counts(store: FeatureStore, column: Literal["modality", "role"]) -> dict[str, int]:
    codes, names = store.tables.names(column)
    counts = np.bincount(codes, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _teacher(store: FeatureStore, name: str) -> TeacherSummary:
    card = store.card(name)
    images = np.arange(store.manifest.rows("images"))
    return TeacherSummary(
        id=name,
        source=card.source,
        licence=card.licence.name,
        fingerprint=card.fingerprint,
        modalities=card.modalities,
        covered_images=int(store.available(name, images).sum()),
        outputs=tuple(_output(store, name, output) for output in store.outputs(name)),
    )


def _output(store: FeatureStore, teacher: str, name: Signal) -> OutputSummary:
    manifest = store.outputs(teacher)[name]
    statistics = None if store.missing(teacher) else store.statistics(teacher).get(name)
    return OutputSummary(
        name=name,
        rows=sum(shard.stop - shard.start for shard in manifest.shards),
        rows_expected=store.manifest.rows(table_of(name, manifest)),
        shape=manifest.shape,
        views=manifest.views,
        precision=manifest.dtype,
        bytes=sum(shard.bytes for shard in manifest.shards),
        norm_mean=None if statistics is None else statistics.norm_mean,
        norm_median=None if statistics is None else float(statistics.norm_quantiles[QUANTILES.index(0.5)]),
        effective_rank=None if statistics is None else statistics.effective_rank,
    )
