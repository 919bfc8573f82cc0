"""Which outputs of a teacher are stored, in which shapes, and how many bytes that takes."""

from collections.abc import Iterable, Mapping
from typing import Final

import torch

from meddistill.features.config import ExtractOptions, StoredPrecision
from meddistill.features.format import OutputManifest
from meddistill.features.reader import TABLE_OF
from meddistill.features.shards import PAGE
from meddistill.signals import TOWERS, Signal
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher

_BYTES: Final[Mapping[StoredPrecision, int]] = {"float16": 2, "float32": 4, "int8": 1}
_SCALE_BYTES: Final = 4
_TABLE_BYTES: Final = 40  # a key of 32 bytes, names and pairs


def layouts(teacher: FrozenTeacher, options: ExtractOptions) -> dict[Signal, OutputManifest]:
    """The outputs of a teacher that `options` ask for, without shards.

    With `tokens` the teacher is asked once for those of a grey image, to learn its grid.
    """
    outputs = _embeddings(teacher.card, options)
    if options.tokens and "patches" in teacher.card.signals and teacher.card.input is not None:
        spec = teacher.card.input
        grey = torch.full((1, spec.height, spec.width, 3), 128, dtype=torch.uint8)
        patches = teacher.patch_tokens(grey)
        outputs["patches"] = OutputManifest(
            shape=tuple(patches.tokens.shape[1:]),
            dtype=options.precision,
            views=options.views,
            grid=patches.grid,
        )
    return outputs


def estimate(images: int, texts: int, teachers: Iterable[FrozenTeacher], options: ExtractOptions) -> int:
    """Bytes that a store of so many distinct images and texts will take.

    Exact but for the tables' compression and the manifests, which are a thousandth of the whole. Patch tokens
    of a teacher that cannot be asked are not counted.
    """
    rows = {"images": images, "texts": texts}
    total = (images + texts) * _TABLE_BYTES
    for teacher in teachers:
        layout = layouts(teacher, options) if teacher.is_runnable else _embeddings(teacher.card, options)
        for name, output in layout.items():
            number = rows[TABLE_OF[name]]
            shards = -(-number // options.shard_rows)
            total += number * row_bytes(output) + shards * PAGE
            total += PAGE + 8 * output.shape[-1] * (output.shape[-1] + 1)
    return total


def row_bytes(output: OutputManifest) -> int:
    """Bytes of one row of an output whose rows are equally long."""
    numbers = output.views
    for length in output.shape:
        numbers *= length
    return numbers * _BYTES[output.dtype] + (_SCALE_BYTES * output.views if output.dtype == "int8" else 0)


def _embeddings(card: TeacherCard, options: ExtractOptions) -> dict[Signal, OutputManifest]:
    return {
        tower: OutputManifest(
            shape=(card.dims[tower],),
            dtype=options.precision,
            views=options.views if tower == "image" else 1,
        )
        for tower in TOWERS
        if tower in card.dims
    }
