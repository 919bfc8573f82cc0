"""A score of every class for every bag, and how much each instance of it counted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from meddistill.arrays import Floats32, Ints
from meddistill.evaluation.base.columns import FactReaders
from meddistill.evaluation.base.exhibits import AnyExhibit, BagAttention
from meddistill.evaluation.base.predictions import by_hash
from meddistill.evaluation.base.score import by_seed
from meddistill.evaluation.tasks.bags.places import attention_map
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions

SHOWN_BAGS: Final = 6
SHOWN_INSTANCES: Final = 24
_PLACE: Final = ("x", "y")


@dataclass(frozen=True, kw_only=True)
class BagPredictions(ClassPredictions):
    """Class scores a bag, a setting and a seed; `rows` and `samples` are those of the bag's first row.

    `table` is the suite's table that `instances` (rows from 1, for every bag) count in, "" where they count
    in a file of stored features. `attention` goes with them and sums to one in every bag. `places` [n, 2] of
    every bag are its instances' corners (x, y), None where they are not known.
    """

    kind: ClassVar[str] = "bags"
    fact_readers: ClassVar[FactReaders] = {**ClassPredictions.fact_readers, "table": str}

    table: str
    instances: tuple[Ints, ...]
    attention: tuple[Floats32, ...]
    places: tuple[Ints, ...] | None = None

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """Attention in a few bags, right and wrong ones in turn, each kind in an order without meaning."""
        return (*super().exhibits(model, task), *self._attention_of(model, task))

    def columns(self) -> Mapping[str, pa.Array]:
        """Those of classes, and the lists of instances, attention and, where known, places."""
        ends = np.cumsum([0, *(len(each) for each in self.instances)]).astype(np.int32)
        arrays = {"instances": np.concatenate([np.zeros(0, dtype=np.int64), *self.instances])}
        arrays["attention"] = np.concatenate([np.zeros(0, dtype=np.float32), *self.attention])
        if self.places is not None:
            corners = np.concatenate([np.zeros((0, 2), dtype=np.int64), *self.places])
            arrays = {**dict(zip(_PLACE, corners.T, strict=True)), **arrays}
        lists = {name: pa.ListArray.from_arrays(ends, pa.array(each)) for name, each in arrays.items()}
        return {**super().columns(), **lists}

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of classes, and the arrays of every bag."""
        fields = super().own_fields(table, facts)
        for name in ("instances", "attention"):
            fields[name] = tuple(each.values.to_numpy() for each in table[name])
        if set(_PLACE) <= set(table.column_names):
            corners = zip(*(table[name] for name in _PLACE), strict=True)
            fields["places"] = tuple(
                np.stack([each.values.to_numpy() for each in pair], axis=1) for pair in corners
            )
        return fields

    def _attention_of(self, model: str, task: str) -> Iterator[BagAttention]:
        """Of the main setting; scores and attention are averaged over its seeds."""
        main = np.array([setting == "" for setting in self.settings])
        fits = by_seed(self.seeds, main)
        given = np.mean([self.scores[fit] for fit in fits], axis=0).argmax(axis=1)
        bags = fits[0]
        order = sorted(range(len(bags)), key=lambda bag: by_hash(task, int(self.rows[bags[bag]])))
        turns: dict[bool, int] = {}
        ranked: list[tuple[int, int, int]] = []
        for bag in order:
            right = bool(given[bag] == self.truth[bags[bag]])
            turns[right] = turns.get(right, 0) + 1
            ranked.append((turns[right], len(ranked), bag))
        for _, _, bag in sorted(ranked)[:SHOWN_BAGS]:
            weights = np.stack([self.attention[fit[bag]] for fit in fits]).astype(np.float64).mean(axis=0)
            shown = np.argsort(-weights, kind="stable")[:SHOWN_INSTANCES]
            numbers = self.instances[bags[bag]]
            lie = None if self.places is None else self.places[bags[bag]]
            yield BagAttention(
                model=model,
                task=task,
                table=self.table,
                truth=self.classes[self.truth[bags[bag]]],
                given=self.classes[given[bag]],
                rows=tuple(numbers[shown].tolist()),
                weights=tuple(weights[shown].tolist()),
                instances=len(weights),
                places=None if lie is None else attention_map(lie, weights, numbers),
            )
