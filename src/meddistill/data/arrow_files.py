"""Arrow and Parquet files, mapped whatever their names, and what keeps one from being read."""

import mmap
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from meddistill.errors import one_line
from meddistill.file_kinds import Met, met, unreadable

_MAGIC: Final = b"PAR1"
UNREADABLE: Final = (OSError, ValueError, pa.ArrowException)


def mapped(path: Path) -> pa.BufferReader:
    """The file's bytes without reading them; Arrow's own map takes names in UTF-8 only."""
    with path.open("rb") as file:
        return pa.BufferReader(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


def parquet_file(path: Path) -> pq.ParquetFile:
    """The Parquet file, opened."""
    return pq.ParquetFile(mapped(path))


def why_not_parquet(path: Path, error: Exception) -> Met:
    """What was met in place of a Parquet file that can be read, when reading raised one of UNREADABLE."""
    try:
        with path.open("rb") as file:
            starts = file.read(len(_MAGIC)) == _MAGIC
            size = file.seek(0, 2)
            file.seek(max(0, size - len(_MAGIC)))
            ends = file.read() == _MAGIC
    except FileNotFoundError:
        return met(path)
    except OSError as refusal:
        return unreadable(refusal)
    if not starts:
        return met(path)
    if not ends:
        return Met(f"a Parquet file without its end, {size:,} bytes", "Copy it again, or make it anew.")
    do = "Update pyarrow, or write it anew as plain Parquet."
    return Met(f"what pyarrow cannot read ({one_line(error, longest=160)})", do)
