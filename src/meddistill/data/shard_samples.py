"""Samples in tar shards: the files of each, found by kind, read by offset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from meddistill.data.paths import PathRefusedError, shown
from meddistill.imaging import FilePart

KEY, IMAGE, JSON = "__key__", "image", "json"
IMAGE_KINDS = ("jpg", "jpeg", "png", "tif", "tiff", "bmp", "dcm", "dicom", "nii", "nii.gz")

_NONE, _SEVERAL = -1, -2
_MOST_KINDS = 6


@dataclass(frozen=True, kw_only=True)
class ShardSamples:
    """Samples of all shards by columns; the files of one key in one shard are one sample.

    `keys` `[samples]` are bytes. File f belongs to sample `sample[f]`, has kind `spellings[kind[f]]` (as
    written; kinds are compared in lower case), and is `size[f]` bytes of shard `shard[sample[f]]` from byte
    `start[f]`. Samples stand in the order of their first files, shards in theirs.
    """

    shards: Sequence[Path]
    shard: NDArray[np.int32]
    keys: pa.ChunkedArray
    sample: NDArray[np.int64]
    kind: NDArray[np.int32]
    spellings: Sequence[str]
    start: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        """The sample's key; bytes that are no UTF-8 as lone surrogates (PEP 383)."""
        key: bytes = self.keys[index].as_py()
        return key.decode("utf-8", "surrogateescape")

    def place(self, index: int) -> str:
        """`shard 000.tar, sample '0003'`, for messages."""
        return f"shard {self.shards[self.shard[index]].name}, sample {shown(self.key(index))}"

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of file that some sample has, in lower case."""
        return tuple(dict.fromkeys(each.lower() for each in self.spellings))

    @cached_property
    def _by_sample(self) -> NDArray[np.int64]:
        return np.argsort(self.sample, kind="stable")

    def files(self, column: str) -> NDArray[np.int64]:
        """The file of each sample that `column` names: its number, or -1 for none, -2 for several.

        `column` is a kind, or IMAGE for whichever kind of image a sample has.
        """
        wanted = IMAGE_KINDS if column == IMAGE else (column.lower(),)
        codes = [code for code, each in enumerate(self.spellings) if _is_one_of(each.lower(), wanted, column)]
        numbers = np.flatnonzero(np.isin(self.kind, codes))
        file_of = np.full(len(self), _NONE, dtype=np.int64)
        file_of[self.sample[numbers]] = numbers
        file_of[np.bincount(self.sample[numbers], minlength=len(self)) > 1] = _SEVERAL
        return file_of

    def part(self, number: int) -> FilePart:
        """File `number`, where it lies."""
        sample = self.sample[number]
        name = f"{self.key(sample)}.{self.spellings[self.kind[number]]}"
        shard = self.shards[self.shard[sample]]
        return FilePart(shard, name, int(self.start[number]), int(self.size[number]))

    def contents(self, numbers: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of these files, which follow the order of the shards; each shard is opened once."""
        shards = self.shard[self.sample[numbers]]
        edges = np.flatnonzero(np.diff(shards)) + 1
        for of_one in np.split(numbers, edges) if len(numbers) else ():
            with self.shards[self.shard[self.sample[of_one[0]]]].open("rb", buffering=0) as shard:
                for start, size in zip(self.start[of_one].tolist(), self.size[of_one].tolist(), strict=True):
                    shard.seek(start)
                    yield shard.read(size)

    def kinds_of(self, index: int) -> str:
        """The kinds of a sample's files, for messages."""
        first, last = np.searchsorted(self.sample, [index, index + 1], sorter=self._by_sample)
        numbers = np.sort(self._by_sample[first:last])
        kinds = [shown(self.spellings[code])[1:-1] for code in self.kind[numbers]]
        more = f" and {len(kinds) - _MOST_KINDS} more" if len(kinds) > _MOST_KINDS else ""
        return ", ".join(f"`{kind}`" for kind in kinds[:_MOST_KINDS]) + more


class SampleImages:
    """The image of each sample, by the column that names it."""

    def __init__(self, samples: ShardSamples, column: str) -> None:
        self._samples = samples
        self._column = column
        self._files = samples.files(column)

    def find(self, index: int) -> FilePart:
        """The image; raises PathRefusedError for a sample with none, or with several."""
        number = int(self._files[index])
        if number >= 0:
            return self._samples.part(number)
        has = self._samples.kinds_of(index)
        if number == _SEVERAL:
            msg = f"must be one image of the sample; got several ({has}). Name one kind: `image: png`"
        else:
            msg = f"must be an image of the sample; got none among its files ({has})"
        raise PathRefusedError(msg)


def _is_one_of(kind: str, wanted: Sequence[str], column: str) -> bool:
    return kind in wanted or (column == IMAGE and kind.endswith(tuple(f".{each}" for each in wanted)))


def gather(shards: Sequence[Path], indices: Sequence[pa.Table]) -> ShardSamples:
    """The files of all shards (`shard_index`) as samples."""
    keys, owners, samples, codes = [], [], [], []
    spellings: dict[str, int] = {}
    count = 0
    for number, index in enumerate(indices):
        encoded = pc.dictionary_encode(index["key"].combine_chunks())
        kinds = pc.dictionary_encode(index["kind"].combine_chunks())
        local = [
            spellings.setdefault(kind.decode("utf-8", "surrogateescape"), len(spellings))
            for kind in kinds.dictionary.to_pylist()
        ]
        keys.append(encoded.dictionary)
        owners.append(np.full(len(encoded.dictionary), number, dtype=np.int32))
        samples.append(encoded.indices.to_numpy() + np.int64(count))
        codes.append(np.array(local, dtype=np.int32)[kinds.indices.to_numpy()])
        count += len(encoded.dictionary)
    return ShardSamples(
        shards=tuple(shards),
        shard=np.concatenate(owners),
        keys=pa.chunked_array(keys, pa.large_binary()),
        sample=np.concatenate(samples),
        kind=np.concatenate(codes),
        spellings=tuple(spellings),
        start=np.concatenate([index["start"].to_numpy() for index in indices]),
        size=np.concatenate([index["size"].to_numpy() for index in indices]),
    )
