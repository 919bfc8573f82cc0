"""PHI-S: a teacher's space with equal variance in every channel and one scale for all."""

import numpy as np

from meddistill.features.projections.hadamard import equal_variances, hadamard, hartley
from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pooled import Pooled


def phi_s_map(pooled: Pooled) -> LinearMap:
    """y = (x - μ)·Aᵀ with A = (1/φ)·H·Uᵀ, φ = √mean(e), of the pooled images and texts.

    C = U diag(e) Uᵀ and H is orthogonal with squared entries 1/d, so each channel of y has variance
    Σ_j e_j/(d φ²) = 1. Because A is orthogonal but for φ, an error in y is one of φ times its size in x,
    whatever its direction; whitening would blow up the directions in which the teacher says little. PHI-S,
    Ranzinger et al. 2024, from its formula.

    H is a Hadamard matrix where `hadamard` has one (512, 768 and 1024 among them). For other dims none
    exists, or none is known here; then H is the Hartley matrix, whose squared entries are 1/d on average,
    turned by at most d - 1 plane rotations until the variances are exactly equal. Variances and isotropy hold
    as before; that every principal axis goes into all channels in equal parts holds only roughly.
    """
    dim = len(pooled.mean)
    mixing = hadamard(dim)
    if mixing is None:
        mixing = equal_variances(hartley(dim), pooled.eigenvalues)
    scale = np.sqrt(pooled.eigenvalues.mean())
    return LinearMap.centred(mixing @ pooled.eigenvectors.T / scale, pooled.mean)
