"""Teachers' embeddings of pairs of image and caption, for maps that are fitted from rows."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from meddistill.errors import StoreError
from meddistill.features.format import Output
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices

TOWERS: Final[tuple[Output, ...]] = ("image", "text")


def unit_rows(
    store: FeatureStore, teacher: str, tower: Output, pairs: Indices, *, device: torch.device
) -> Float[Tensor, "pairs teacher_dim"]:
    """A tower's embeddings of `pairs` `[n, 2]`, rows of images and texts, at unit length; whole images."""
    if tower == "image":
        found = store.read(teacher, tower, pairs[:, 0], views=np.zeros(len(pairs), dtype=np.int64))
    else:
        found = store.read(teacher, tower, pairs[:, 1])
    return functional.normalize(torch.from_numpy(found).to(device).float(), dim=-1)


def refuse_idle(store: FeatureStore, pairs: Mapping[str, Indices]) -> None:
    """Raise StoreError for teachers without pairs."""
    idle = [name for name, each in pairs.items() if not len(each)]
    if idle:
        msg = (
            f"every teacher must be available for one pair at least in `{store.path}`; got none for "
            f"{', '.join(idle)}. Leave them out, or look at more pairs."
        )
        raise StoreError(msg)
