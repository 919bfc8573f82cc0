"""True masks of a table's rows, read once and checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags
from meddistill.data.samples import name_rows
from meddistill.data.threads import thread_map
from meddistill.errors import ImageError, TableError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.segmentation.config import SegmentationProbeConfig
from meddistill.evaluation.tasks.segmentation.metrics import Spacing
from meddistill.imaging import decode
from meddistill.imaging.label_maps import decode_labels

_LONGEST_CELL = 40


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Masks of one structure, a bit a pixel; `shapes` are (rows, columns), `pixels` what is marked.

    `spacings` are millimetres between rows and between columns, None where not known.
    """

    bits: tuple[NDArray[np.uint8], ...]
    shapes: tuple[tuple[int, int], ...]
    pixels: tuple[int, ...]
    spacings: tuple[Spacing | None, ...]

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, place: int) -> Flags:
        rows, columns = self.shapes[place]
        flat = np.unpackbits(self.bits[place], count=rows * columns)
        return flat.astype(bool).reshape(rows, columns)


def read_masks(part: EvalSplit, config: SegmentationProbeConfig) -> Masks:
    """The masks beside the images of a part.

    Raises TableError, with the rows, for label maps that cannot be read or have another size than their
    image, and for spacings that are no positive numbers.
    """
    samples = part.samples
    refs = samples.images[config.mask]

    def read(place: int) -> Flags | str:
        try:
            labels = decode_labels(refs[place], samples.options)
            size = decode(samples.refs[place], samples.options).shape[:2]
        except ImageError as error:
            return str(error)
        if labels.shape != size:
            return (
                f"`{config.mask}` must have the size of its image, {size[0]} x {size[1]}; "
                f"got {labels.shape[0]} x {labels.shape[1]}. Save it on the image's own grid."
            )
        return labels > 0 if config.foreground is None else np.isin(labels, config.foreground)

    spacings = _spacings(part, config)
    results = thread_map(read, range(len(samples)))
    mistakes = [
        f"row {row}: {each}" for row, each in zip(samples.rows, results, strict=True) if isinstance(each, str)
    ]
    TableError.raise_any(part.subject, mistakes)
    masks = [each for each in results if not isinstance(each, str)]
    return Masks(
        bits=tuple(np.packbits(mask) for mask in masks),
        shapes=tuple((mask.shape[0], mask.shape[1]) for mask in masks),
        pixels=tuple(int(mask.sum()) for mask in masks),
        spacings=spacings,
    )


def refuse_unmarked(part: EvalSplit, masks: Masks, config: SegmentationProbeConfig) -> None:
    """Raise TableError where no mask of a part has the structure."""
    if not any(masks.pixels):
        wanted = "other than 0" if config.foreground is None else f"in {config.foreground}"
        rule = (
            f"`{config.mask}` must have labels {wanted} in some row to learn from; got none in "
            f"{len(masks)} rows. Mend `foreground`, or choose other rows."
        )
        raise TableError(part.subject, [rule])


def _spacings(part: EvalSplit, config: SegmentationProbeConfig) -> tuple[Spacing | None, ...]:
    column = config.spacing_column
    if column is None:
        return (config.spacing,) * len(part)
    cells = part.samples.columns[column]
    spacings = [_spacing(cell) for cell in cells]
    wrong = [row for row, each in zip(part.samples.rows, spacings, strict=True) if each is None]
    if wrong:
        first = next(cell for cell, each in zip(cells, spacings, strict=True) if each is None)
        rule = (
            f"`{column}` must hold millimetres, one number or rows|columns; got {first[:_LONGEST_CELL]!r} "
            f"({name_rows(wrong)}). Fill in the spacing, or leave out `spacing_column`."
        )
        raise TableError(part.subject, [rule])
    return tuple(spacings)


def _spacing(cell: str) -> Spacing | None:
    parts: Sequence[str] = cell.split("|")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        return None
    if len(values) not in (1, 2) or not all(math.isfinite(value) and value > 0 for value in values):
        return None
    return values[0], values[-1]
