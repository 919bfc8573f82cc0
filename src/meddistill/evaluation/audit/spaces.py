"""What a store holds of each teacher for an audit's rows, normalised."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Flags, Floats32
from meddistill.evaluation.audit.record import TeacherFacts
from meddistill.evaluation.audit.sample import AuditSample
from meddistill.evaluation.models.protocols import normalized
from meddistill.features.reader import FeatureStore
from meddistill.progress import Progress
from meddistill.signals import Tower


@dataclass(frozen=True)
class Space:
    """A teacher's unit vectors by tower, [rows, dim], and the rows of each that it is available for.

    A text counts as available where the teacher is available for an image beside it. Vectors of other rows
    mean nothing.
    """

    name: str
    vectors: Mapping[Tower, Floats32]
    there: Mapping[Tower, Flags]
    modalities: tuple[str, ...] | None
    is_derived: bool

    @property
    def is_dual(self) -> bool:
        """Whether images and texts share one space."""
        towers = self.vectors
        return len(towers) == 2 and towers["image"].shape[1] == towers["text"].shape[1]

    def facts(self) -> TeacherFacts:
        """What the audit's record says of it."""
        return TeacherFacts(
            name=self.name,
            dims={tower: vectors.shape[1] for tower, vectors in self.vectors.items()},
            modalities=self.modalities,
            images=int(self.there["image"].sum()) if "image" in self.vectors else 0,
            texts=int(self.there["text"].sum()) if "text" in self.vectors else 0,
        )


def complete_teachers(store: FeatureStore, teachers: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of `teachers` that have every row, and a note on each of the others."""
    complete, notes = [], []
    for name in teachers:
        missing = store.missing(name)
        if missing:
            rows = ", ".join(f"{count:,} rows of its {output} output" for output, count in missing.items())
            notes.append(f"{name} is left out: {rows} are not extracted yet.")
        else:
            complete.append(name)
    return complete, notes


def read_spaces(
    store: FeatureStore, teachers: Sequence[str], sample: AuditSample, *, progress: Progress
) -> Iterator[Space]:
    """The spaces of `teachers`, of view 0 where there are several."""
    with progress.track("audit: features", len(teachers), unit="teachers") as advance:
        for name in teachers:
            yield _space(store, name, sample)
            advance(1)


def _space(store: FeatureStore, name: str, sample: AuditSample) -> Space:
    outputs = store.outputs(name)
    vectors: dict[Tower, Floats32] = {}
    if "image" in outputs:
        first = np.zeros(len(sample.image_rows), dtype=np.int64)
        read = store.read(name, "image", sample.image_rows, views=first)
        vectors["image"] = normalized(read.astype(np.float32))
    if "text" in outputs:
        vectors["text"] = normalized(store.read(name, "text", sample.text_rows).astype(np.float32))
    images = store.available(name, sample.image_rows)
    if "image" in vectors:
        images &= vectors["image"].any(axis=1)  # a row of zeros stands for one that the teacher never saw
    there: dict[Tower, Flags] = {"image": images, "text": _texts(images, sample)}
    card = store.card(name)
    return Space(name, vectors, there, card.modalities, is_derived=card.is_derived)


def _texts(images: Flags, sample: AuditSample) -> Flags:
    if not len(sample.pairs):
        return np.ones(len(sample.text_rows), dtype=np.bool_)
    there = np.zeros(len(sample.text_rows), dtype=np.bool_)
    there[sample.pairs[images[sample.pairs[:, 0]], 1]] = True
    return there
