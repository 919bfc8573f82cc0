"""The rank of the best right answer to every query."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from meddistill.arrays import Flags, Floats, Ints
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.columns import FactReaders, Layout, decimals, texts, whole_numbers
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.results import ALL_ROWS
from meddistill.evaluation.base.score import Score, by_modality
from meddistill.evaluation.tasks.retrieval.metrics import DIRECTIONS, MAIN, rank_metrics


@dataclass(frozen=True, kw_only=True)
class RankPredictions(Predictions):
    """The rank of the best right answer to every query.

    A query that belongs to several patients (a caption that they share) stands once for each of them, with
    `shares` that add up to one. `rows` is the first row of the table that holds the query. `positives`
    counts its right answers. `images` and `texts` are the sizes of the two galleries.
    """

    kind: ClassVar[str] = "ranks"
    layout: ClassVar[Layout] = {
        "direction_names": texts("direction"),
        "shares": decimals("share"),
        "ranks": decimals("rank"),
        "positives": whole_numbers("positives"),
    }
    fact_readers: ClassVar[FactReaders] = {"images": int, "texts": int}

    images: int
    texts: int
    directions: Ints
    ranks: Floats
    shares: Floats
    positives: Ints

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics on all queries, and the main metric by modality."""
        scores = self._scores_of(resampler, np.ones(len(self.ranks), dtype=bool), ALL_ROWS)
        for modality, mask in by_modality(self.modalities).items():
            scores += [score for score in self._scores_of(resampler, mask, modality) if score.metric == MAIN]
        return scores

    @property
    def direction_names(self) -> list[str]:
        """The direction of every query."""
        return [DIRECTIONS[index] for index in self.directions]

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the layout, and the numbers of the directions."""
        fields = super().own_fields(table, facts)
        directions = [DIRECTIONS.index(name) for name in fields.pop("direction_names")]
        return {**fields, "directions": np.array(directions, dtype=np.int64)}

    def _scores_of(self, resampler: Resampler, mask: Flags, modality: str) -> list[Score]:
        patients, groups = np.unique(self.patients[mask], return_inverse=True)
        metrics = rank_metrics(
            directions=self.directions[mask],
            ranks=self.ranks[mask],
            shares=self.shares[mask],
            weights=resampler.weights(patients),
            groups=groups,
        )
        queries = self._queries(mask)
        return [
            Score(
                metric=metric,
                replicates=replicates,
                n=next(
                    (queries[name] for name in DIRECTIONS if metric.startswith(name)), sum(queries.values())
                ),
                patients=len(patients),
                modality=modality,
                main=metric == MAIN and modality == ALL_ROWS,
            )
            for metric, replicates in metrics.items()
        ]

    def _queries(self, mask: Flags) -> dict[str, int]:
        return {
            name: len(np.unique(self.rows[mask & (self.directions == index)]))
            for index, name in enumerate(DIRECTIONS)
        }
