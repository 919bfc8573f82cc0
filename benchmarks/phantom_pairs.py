"""The pairs of a phantom as a table, for benchmarks that need images."""

from pathlib import Path

from meddistill.data.config import TableConfig
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.samples import Samples
from meddistill.data.table import read_table


def phantom_pairs(folder: Path, images: int, *, size: int = 64) -> Samples:
    """Images of `size` px with their captions, drawn into `folder`."""
    tables = generate(folder / "phantom", PhantomConfig(samples=images, size=size))
    return read_table(TableConfig(table=str(tables.pairs), text="text"), base=folder)
