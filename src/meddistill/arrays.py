"""Arrays by what they hold: one name for one type. Loads no torch."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floating = TypeVar("Floating", bound=np.floating)

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]


def unit_length(vectors: NDArray[Floating]) -> NDArray[Floating]:
    """Vectors divided by their Euclidean norm, which is taken in float64; zeros stay zeros."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    return (vectors / np.maximum(norms, 1e-12)).astype(vectors.dtype)
