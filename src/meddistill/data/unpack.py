"""Images that stand inside a table, as files."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from meddistill.data.raw_table import EmbeddedImage
from meddistill.files import file_aside


def unpack(images: Mapping[int, EmbeddedImage], folder: Path, *, rows: Sequence[int]) -> dict[int, Path]:
    """Row → file in `folder` for the rows that embed an image.

    Files are named by the hash of their content, so equal images share one, and a second call writes nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inside = folder.resolve()
    return {row: _write_once(inside, images[row]) for row in rows if row in images}


def _write_once(folder: Path, image: EmbeddedImage) -> Path:
    suffix = Path(image.name).suffix.lower()
    name = hashlib.sha256(image.content).hexdigest()[:32] + (suffix if suffix[1:].isalnum() else "")
    path = folder / name
    if not path.is_file() or path.stat().st_size != len(image.content):
        with file_aside(path, durable=False) as part:
            part.write_bytes(image.content)
    return path
