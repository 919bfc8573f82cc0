"""Tar shards in the WebDataset format, written with the standard library."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Content = bytes | str | Mapping[str, object]
Sample = tuple[str, Mapping[str, Content]]


def picture(seed: int) -> bytes:
    """A PNG of noise that no other seed gives."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, format="PNG")
    return file.getvalue()


def sample(number: int, **fields: object) -> Sample:
    """A sample with an image, a caption as text, and fields as JSON."""
    told = {"patient": f"p{number // 2}", "modality": "ct", **fields}
    return f"{number:04d}", {"png": picture(number), "txt": f"caption {number}", "json": told}


def as_bytes(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def write_tar(path: Path, files: Sequence[tuple[str, Content]], *, form: int = tarfile.PAX_FORMAT) -> Path:
    """A plain tar of these files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:", format=form, errors="surrogateescape") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(as_bytes(content))
            tar.addfile(member, io.BytesIO(as_bytes(content)))
    return path


def write_shard(path: Path, samples: Sequence[Sample], *, form: int = tarfile.PAX_FORMAT) -> Path:
    """A shard of these samples."""
    files = [(f"{key}.{kind}", content) for key, kinds in samples for kind, content in kinds.items()]
    return write_tar(path, files, form=form)


def write_shards(folder: Path, *, shards: int = 2, samples: int = 3) -> list[Path]:
    """`train-000.tar` and so on, of `sample`s with running numbers."""
    return [
        write_shard(
            folder / f"train-{number:03d}.tar",
            [sample(number * samples + each) for each in range(samples)],
        )
        for number in range(shards)
    ]


def unpack(shards: Sequence[Path], folder: Path) -> Path:
    """All files of the shards as loose ones."""
    for shard in shards:
        with tarfile.open(shard) as tar:
            tar.extractall(folder, filter="data")
    return folder
