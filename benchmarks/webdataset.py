"""Images in tar shards, read by offset, against the same images as loose files."""

import tarfile
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Measurement, interleaved, seconds
from meddistill.data.config import TableConfig
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.samples import Samples
from meddistill.data.table import read_table
from meddistill.imaging import decode

LIMIT = 0.95
IMAGES, SHARDS, ROUNDS = 2048, 4, 9


def run() -> list[Measurement]:
    """The rate of random decodes, and of bare reads, over that of loose files; all in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tables = generate(base / "phantom", PhantomConfig(samples=IMAGES, size=224))
        loose = read_table(TableConfig(table=tables.pairs), base=base)
        _pack([Path(str(ref.path)) for ref in loose.refs], base / "shards")
        packed = read_table(TableConfig(table=Path("shards")), base=base)
        order = np.random.default_rng(0).permutation(len(loose)).tolist()
        in_shards = sorted(range(len(packed)), key=lambda row: str(packed.refs[row].path).rpartition("/")[2])
        shards = packed.take(in_shards)
        decoding = interleaved(
            lambda: _decode_all(loose, order), lambda: _decode_all(shards, order), rounds=ROUNDS
        )
        reading = interleaved(
            lambda: _read_all(loose, order), lambda: _read_all(shards, order), rounds=ROUNDS
        )
        rate = len(order) / seconds(lambda: _decode_all(shards, order))
    what = "tar shards, random images of 224 px, against loose files"
    return [
        Measurement(
            what=f"{what}: decoding",
            value=f"{decoding:.2f} ({rate:,.0f} images/s)",
            limit=f">= {LIMIT}",
            holds=decoding >= LIMIT,
        ),
        Measurement(
            what=f"{what}: bare reads",
            value=f"{reading:.2f}",
            limit="none (microseconds beside a decode)",
            holds=True,
        ),
    ]


def _pack(images: list[Path], folder: Path) -> None:
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for image in images[shard::SHARDS]:
                tar.add(image, arcname=image.name)


def _decode_all(samples: Samples, order: list[int]) -> None:
    for row in order:
        decode(samples.refs[row], samples.options)


def _read_all(samples: Samples, order: list[int]) -> None:
    for row in order:
        with samples.refs[row].path.open("rb") as file:
            file.read()
