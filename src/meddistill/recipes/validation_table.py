"""The table of `data.validation`: read as the training table is, and held against it."""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from meddistill.data.decoded import DecodedImages
from meddistill.data.samples import Samples
from meddistill.data.splits import check_leakage
from meddistill.data.unreadable import read_readable
from meddistill.errors import ConfigError
from meddistill.progress import Progress
from meddistill.recipes.schema import Recipe

_LEAST_PAIRS: Final = 2


class Table(NamedTuple):
    """Samples and the content keys of their images."""

    samples: Samples
    keys: tuple[str, ...]


def read_validation(
    recipe: Recipe, *, base: Path, progress: Progress, decoded: DecodedImages
) -> Samples | None:
    """The table, its rows without a caption left out; None where the recipe names none."""
    table = recipe.data.validation
    if table is None:
        return None
    listed = [name for name in (recipe.features.availability.column,) if name is not None]
    found = read_readable(table, base=base, columns=listed, lists=listed, progress=progress, decoded=decoded)
    return found.take(np.flatnonzero(found.captioned))


def refuse_validation(train: Table, validation: Table) -> None:
    """Raise TableError or ConfigError where the table shares rows with `train`, or has too few pairs."""
    tables = {"data.train": train, "data.validation": validation}
    check_leakage(
        {name: each.samples for name, each in tables.items()},
        image_keys={name: each.keys for name, each in tables.items()},
    )
    if len(validation.samples) < _LEAST_PAIRS:
        lines = [
            f"`data.validation` must have {_LEAST_PAIRS} pairs of image and caption at least; got "
            f"{len(validation.samples)}. Name its column of captions in `text`, or add rows."
        ]
        subject = "data"
        raise ConfigError(subject, lines)
