"""Feature stores of planted vectors: what each teacher says is given, no model is asked."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meddistill.features.config import ExtractOptions
from meddistill.features.extract import settings_of
from meddistill.features.format import OutputManifest
from meddistill.features.reader import TABLE_OF, FeatureStore
from meddistill.features.rows import DistinctRows
from meddistill.features.writer import StoreWriter
from meddistill.imaging.options import DEFAULT_OPTIONS
from meddistill.licences import KNOWN
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

OPTIONS = ExtractOptions(precision="float32", shard_rows=64, batch_size=64)


@dataclass(frozen=True)
class Planted:
    """A teacher's vectors of all images and texts; without `texts` it only sees."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32] | None = None
    modalities: tuple[str, ...] | None = None


def planted_store(
    path: Path, teachers: Mapping[str, Planted], pairs: Sequence[tuple[int, int]], modalities: Sequence[str]
) -> FeatureStore:
    """A store with these teachers; image i has modality `modalities[i]`."""
    texts = 1 + max((text for _, text in pairs), default=-1)
    rows = DistinctRows(
        image_keys=tuple(_key("image", row) for row in range(len(modalities))),
        image_samples=np.arange(len(modalities)),
        modalities=tuple(modalities),
        text_keys=tuple(_key("text", row) for row in range(texts)),
        texts=tuple(str(row) for row in range(texts)),
        text_places=np.arange(texts),
        roles=("caption",) * texts,
        pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2),
    )
    admitted = {name: _admitted(name, planted) for name, planted in teachers.items()}
    with StoreWriter.open(path, settings_of(DEFAULT_OPTIONS, OPTIONS), OPTIONS) as writer:
        writer.begin(rows, admitted)
        for name, planted in teachers.items():
            for output, values in _values(planted).items():
                _fill(writer, (name, output), values)
            writer.summarize(name)
    return FeatureStore.open(path)


def _values(planted: Planted) -> dict[Signal, NDArray[np.float32]]:
    values: dict[Signal, NDArray[np.float32]] = {"image": planted.images}
    return values if planted.texts is None else {**values, "text": planted.texts}


def _admitted(name: str, planted: Planted) -> tuple[TeacherCard, dict[Signal, OutputManifest]]:
    values = _values(planted)
    outputs = {
        output: OutputManifest(shape=(each.shape[1],), dtype="float32") for output, each in values.items()
    }
    card = TeacherCard(
        id=name,
        kind="python",
        source="planted",
        library="tests",
        weights_sha256=hashlib.sha256(name.encode()).hexdigest(),
        licence=KNOWN["MIT"],
        dims={output: each.shape[1] for output, each in values.items()},
        signals=frozenset(values),
        modalities=planted.modalities,
        parameters=1,
    )
    return card, outputs


def _fill(writer: StoreWriter, ask: tuple[str, Signal], values: NDArray[np.float32]) -> None:
    table = TABLE_OF[ask[1]]
    for span in writer.claimed(table, writer.missing(*ask), [ask]):
        with writer.draft(*ask, span) as draft:
            draft.append(np.ascontiguousarray(values[slice(*span)], dtype=np.float32))
            writer.enter(table, span, {ask: draft})


def _key(kind: str, row: int) -> str:
    return hashlib.sha256(f"{kind} {row}".encode()).hexdigest()


def clip_like(
    meaning: NDArray[np.float64], *, dim: int, noise: float, seed: int, text_noise: float | None = None
) -> Planted:
    """A teacher that sees `meaning` [n, k] turned into `dim` dimensions, with noise; one text an image."""
    draws = np.random.default_rng(seed)
    turn = draws.normal(size=(meaning.shape[1], dim)) / np.sqrt(meaning.shape[1])
    texts = noise if text_noise is None else text_noise
    said = [meaning @ turn + level * draws.normal(size=(len(meaning), dim)) for level in (noise, texts)]
    return Planted(*(each.astype(np.float32) for each in said))
