"""Small tables and pictures on disk."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from meddistill.data.config import TableConfig
from meddistill.data.samples import Samples
from meddistill.data.table import read_table

Cells = Mapping[str, object]


def paint(path: Path, seed: int, *, height: int = 9, width: int = 12) -> Path:
    """A picture of noise that no other seed gives; its kind is the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def paint_all(folder: Path, count: int) -> list[str]:
    """`images/0.png` and so on; returns their paths relative to the folder."""
    return [paint(folder / f"images/{i}.png", i).relative_to(folder).as_posix() for i in range(count)]


def write_csv(path: Path, rows: Sequence[Cells], *, encoding: str = "utf-8", delimiter: str = ",") -> Path:
    """A table with the columns of the first row; lone surrogates (PEP 383) become their bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path, *, columns: Sequence[str] = (), **named: object) -> Samples:
    """The table at an absolute path, with these columns by role."""
    return read_table(TableConfig(table=path.name, **named), base=path.parent, columns=columns)
