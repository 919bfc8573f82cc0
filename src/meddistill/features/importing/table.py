"""The table that a recipe trains from, beside an imported store."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meddistill.data.keys import image_keys, text_keys
from meddistill.data.samples import Samples
from meddistill.features.files import write_whole
from meddistill.features.importing.published import PublishedSample
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices

COLUMNS = ("image", "text", "teachers")
_CHUNK = 8192


@dataclass(frozen=True, kw_only=True)
class ImportedTable:
    """A CSV of image path (relative to `root`), caption, and the teachers of the row, joined by `|`."""

    path: Path
    root: Path
    rows: int
    left_out: int
    teachers_a_row: float


def write_table(
    store: FeatureStore,
    published: Sequence[PublishedSample],
    samples: Samples,
    *,
    root: Path,
    teachers: Sequence[str],
) -> ImportedTable:
    """Write `<store>-pairs.csv`: the rows for which a teacher at least has both vectors in the store."""
    images, texts = store.image_rows(image_keys(samples)), store.text_rows(text_keys(samples))
    there = {name: _there(store, name, images, texts) for name in teachers}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    kept = named = 0
    for place, sample in enumerate(published):
        asked = [name for name in sample.teachers if there[name][place]]
        if asked:
            image = sample.image.relative_to(root.resolve()).as_posix()
            writer.writerow((image, sample.text, "|".join(asked)))
            kept, named = kept + 1, named + len(asked)
    path = store.path.with_name(f"{store.path.name}-pairs.csv")
    write_whole(path, buffer.getvalue().encode("utf-8", "surrogateescape"))
    return ImportedTable(
        path=path, root=root, rows=kept, left_out=len(published) - kept, teachers_a_row=named / max(kept, 1)
    )


def _there(store: FeatureStore, teacher: str, images: Indices, texts: Indices) -> NDArray[np.bool_]:
    """Whether a teacher has vectors other than zero of the image and of the text of each sample."""
    there = np.zeros(len(images), dtype=np.bool_)
    for start in range(0, len(images), _CHUNK):
        span = slice(start, start + _CHUNK)
        image = store.read(teacher, "image", images[span]).any(axis=1)
        there[span] = image & store.read(teacher, "text", texts[span]).any(axis=1)
    return there
