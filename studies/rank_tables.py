"""The ranks of one run as a small text table that can be committed, and recalls with intervals from it.

A line an image: its number, the rank of its best caption, and the ranks at which its captions find it, `*`
and a share behind those of captions that other images have too. The first line is JSON: what the figures
belong to, and what the model costs.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.tasks.retrieval.metrics import DIRECTIONS, HITS, rank_metrics
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions
from meddistill.strict import Strict

Replicates = NDArray[np.float64]
COLUMNS: Final = ("image", *DIRECTIONS)
RESAMPLER: Final = Resampler(BootstrapConfig())


class Facts(Strict):
    """What a table belongs to, and what its model costs.

    `recipe` is a hash of it. `multiply_adds` are those of one image and one caption that fills the context,
    without normalisation, activations and sums.
    """

    recipe: str
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class RankTable:
    """The ranks of all queries of one model; `images` are the numbers of their images."""

    facts: Facts
    images: NDArray[np.int64]
    directions: NDArray[np.int64]
    ranks: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, dump: RankPredictions, facts: Facts) -> Self:
        """Those of a retrieval task, whose patients are images."""
        return cls(facts, dump.patients, dump.directions, dump.ranks, dump.shares)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The table at `path`."""
        first, *lines = path.read_text().splitlines()
        queries = [
            (int(row["image"]), index, *_rank_and_share(word))
            for row in csv.DictReader(lines)
            for index, direction in enumerate(DIRECTIONS)
            for word in row[direction].split()
        ]
        images, directions, ranks, shares = map(np.array, zip(*queries, strict=True))
        return cls(Facts.model_validate_json(first), images, directions, ranks, shares)

    def save(self, path: Path) -> None:
        """Write the table to `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            file.write(f"{json.dumps(self.facts.model_dump())}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for image in np.unique(self.images):
                writer.writerow([image, *(self._words(image, index) for index in range(len(DIRECTIONS)))])

    @cached_property
    def recalls(self) -> Mapping[str, Replicates]:
        """Recall in per cent, by direction and k: `[1 + resamples]`, of which entry 0 is the estimate."""
        numbers, groups = np.unique(self.images, return_inverse=True)
        found = rank_metrics(
            directions=self.directions,
            ranks=self.ranks,
            shares=self.shares,
            weights=RESAMPLER.weights(numbers),
            groups=groups,
        )
        return {name: 100 * found[name] for name in HITS}

    @property
    def recall_sum(self) -> Replicates:
        """The sum of the six recalls, at most 600, `[1 + resamples]`."""
        return np.sum([self.recalls[name] for name in HITS], axis=0)

    def _words(self, image: int, direction: int) -> str:
        chosen = np.flatnonzero((self.images == image) & (self.directions == direction))
        return " ".join(_word(self.ranks[place], self.shares[place]) for place in chosen)


def mean_recall_sum(tables: Sequence[RankTable]) -> Replicates:
    """Mean over seeds, resample by resample: images are drawn, the same for all, and seeds are not."""
    return np.mean([table.recall_sum for table in tables], axis=0)


def _word(rank: float, share: float) -> str:
    return f"{rank:g}" if share == 1 else f"{rank:g}*{share:.6g}"


def _rank_and_share(word: str) -> tuple[float, float]:
    rank, _, share = word.partition("*")
    return float(rank), float(share or 1)
