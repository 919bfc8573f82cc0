"""Mean and covariance of a teacher's images and texts as one population."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import StoreError
from meddistill.features.statistics import Statistics
from meddistill.signals import Signal


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Of a vector that is an image's or a text's, each as likely as the other.

    A training sample has one of each, however many images, captions or views are stored; hence equal shares
    and not shares by count. With shares w = 1/T over the T towers, by the laws of total expectation and
    total covariance,

        μ = Σ w μ_m,    C = Σ w C_m + Σ w (μ_m - μ)(μ_m - μ)ᵀ.

    The second term is the gap between the towers. `eigenvalues` of C descend; `eigenvectors` are the columns
    of U in C = U diag(e) Uᵀ, each with the sign that makes its largest entry positive.
    """

    mean: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: Mapping[Signal, Statistics], *, teacher: str) -> Self:
        """From the towers' statistics. Raises StoreError where the teacher's embeddings do not vary."""
        towers = [statistics[output] for output in ("image", "text") if output in statistics]
        mean, covariance = total_moments(towers)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0.0, None), vectors[:, ::-1]
        if not values.sum() > 0:
            msg = (
                f"teacher {teacher!r} must give embeddings that vary over the data; got no variance. "
                "Leave the teacher out."
            )
            raise StoreError(msg)
        return cls(mean=mean, eigenvalues=values, eigenvectors=with_signs(vectors))


def with_signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column with the sign that makes its largest entry positive; eigenvectors come with either."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(largest < 0, -1.0, 1.0)


def total_moments(towers: list[Statistics]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance of the equal mixture of the towers."""
    means = np.stack([each.mean for each in towers])
    mean = means.mean(axis=0)
    gaps = means - mean
    within = sum((each.covariance for each in towers), np.zeros((len(mean), len(mean))))
    return mean, (within + gaps.T @ gaps) / len(towers)
