"""How well a teacher's image and text embeddings of a pair agree."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats
from meddistill.features.outputs import StoredOutput
from meddistill.features.rows import Indices

AGREEMENT: Final = "agreement"
_CHUNK: Final = 8192


def agreement_of(image: StoredOutput, text: StoredOutput, pairs: Indices) -> NDArray[np.float32]:
    """cos(x, y) = xᵀy / (|x|₂·|y|₂) in [-1, 1] of the image x (view 0) and the text y of each pair.

    `pairs` `[n, 2]` are rows of `image` and `text`. 0 where either is zero. Computed in float64 from the
    stored numbers, a few thousand pairs at a time, and rounded once.
    """
    cosines = np.zeros(len(pairs), dtype=np.float32)
    for start in range(0, len(pairs), _CHUNK):
        rows = pairs[start : start + _CHUNK]
        whole = np.zeros(len(rows), dtype=np.int64)
        cosines[start : start + _CHUNK] = _cosines(
            image.read(rows[:, 0], views=whole).astype(np.float64), text.read(rows[:, 1]).astype(np.float64)
        )
    return cosines


def _cosines(first: Floats, second: Floats) -> Floats:
    products = np.einsum("ij,ij->i", first, second)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: Floats = np.clip(products / np.where(norms > 0, norms, 1.0), -1.0, 1.0)
    return cosines
