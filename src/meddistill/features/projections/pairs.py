"""Teachers' embeddings of pairs of image and caption, for maps that are fitted from rows."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from meddistill.errors import StoreError
from meddistill.features.outputs import Array
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.features.statistics import Statistics, statistics_of
from meddistill.features.tables import ABSENT
from meddistill.signals import TOWERS, Signal, Tower

# In the order of a pair's columns.
_CHUNK: Final = 65_536


def has_row(pairs: Indices, tower: Tower) -> NDArray[np.bool_]:
    """Which of `pairs` have an image, or a caption: ABSENT stands for a caption that is not there."""
    found: NDArray[np.bool_] = pairs[:, TOWERS.index(tower)] != ABSENT
    return found


def unit_rows(
    store: FeatureStore, teacher: str, tower: Tower, pairs: Indices, *, device: torch.device
) -> Float[Tensor, "pairs teacher_dim"]:
    """A tower's embeddings of `pairs` `[n, 2]`, rows of images and texts, at unit length; whole images."""
    rows = _whole(store, teacher, tower, store.rows_of(teacher, tower, pairs))
    return functional.normalize(torch.from_numpy(rows).to(device).float(), dim=-1)


def statistics_of_pairs(store: FeatureStore, teacher: str, pairs: Indices) -> Mapping[Signal, Statistics]:
    """Exact statistics of the distinct images (whole) and texts of `pairs` `[n, 2]`.

    Where these are all that the store has of that tower, they are those that it keeps; which are over all
    views, and over rows that the teacher must not be used for. Others are read anew.
    """
    kept = store.statistics(teacher)
    statistics: dict[Signal, Statistics] = {}
    for tower in TOWERS:
        rows = np.unique(store.rows_of(teacher, tower, pairs[has_row(pairs, tower)]))
        if tower not in kept or not len(rows):
            continue
        one_view = tower == "text" or store.views == 1
        if one_view and len(rows) == store.output(teacher, tower).rows:
            statistics[tower] = kept[tower]
        else:
            parts = (
                _whole(store, teacher, tower, rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)
            )
            statistics[tower] = statistics_of(parts, store.outputs(teacher)[tower].shape[-1])
    return statistics


def refuse_idle(store: FeatureStore, pairs: Mapping[str, Indices], *, do: str = "Leave them out.") -> None:
    """Raise StoreError for teachers without pairs; `do` is what helps."""
    idle = [name for name, each in pairs.items() if not len(each)]
    if idle:
        msg = (
            f"every teacher must be available for one pair at least in `{store.path}`; got none for "
            f"{', '.join(idle)}. {do}"
        )
        raise StoreError(msg)


def _whole(store: FeatureStore, teacher: str, tower: Tower, rows: Indices) -> Array:
    views = np.zeros(len(rows), dtype=np.int64) if tower == "image" else None
    return store.read(teacher, tower, rows, views=views)
