"""The leading principal components of a teacher's space."""

import numpy as np

from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pooled import Pooled


def pca_map(pooled: Pooled, *, dim: int) -> LinearMap:
    """y = U_kᵀ (x - μ), k = min(dim, teacher_dim), of the pooled images and texts.

    Of all affine maps to k channels the one from which x can be rebuilt with the least mean squared error
    (Pearson 1901). Components are neither whitened nor scaled, so distances among what is kept stay as they
    were. Beyond the teacher's own channels y is zero: a smaller space stands in the larger one unchanged.
    """
    components = pooled.eigenvectors[:, :dim].T
    weight = np.zeros((dim, len(pooled.mean)))
    weight[: len(components)] = components
    return LinearMap.centred(weight, pooled.mean)
