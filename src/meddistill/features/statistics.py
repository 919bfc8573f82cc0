"""Exact statistics of what a teacher said: count, mean, covariance, norms."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

QUANTILES: Final = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_CHUNK: Final = 8192


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of all vectors x of one output (rows, views and tokens alike), as they are stored, but those of zeros.

    `mean` `[dim]`; `covariance` `[dim, dim]` = Σ (x - mean)(x - mean)ᵀ / count (the population's);
    `norm_quantiles` of |x|₂ at QUANTILES, interpolated linearly; `norm_mean` = Σ |x|₂ / count. float64.
    """

    count: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    norm_mean: float
    norm_quantiles: NDArray[np.float64]

    @property
    def effective_rank(self) -> float:
        """exp(-Σ p log p) of the covariance's normalised eigenvalues p, in [1, dim]; 0 without variance.

        Roy and Vetterli, "The effective rank", EUSIPCO 2007, with eigenvalues of the covariance for
        singular values of a matrix.
        """
        values = np.clip(np.linalg.eigvalsh(self.covariance), 0, None)
        if not values.sum() > 0:
            return 0.0
        shares = values[values > 0] / values.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))

    def tensors(self, name: str) -> dict[str, NDArray[np.generic]]:
        """As named tensors of a file that several outputs share."""
        return {
            f"{name}.count": np.array([self.count], dtype=np.int64),
            f"{name}.mean": self.mean,
            f"{name}.covariance": self.covariance,
            f"{name}.norm_mean": np.array([self.norm_mean]),
            f"{name}.norm_quantiles": self.norm_quantiles,
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, NDArray[np.generic]], name: str) -> Self:
        """The inverse of `tensors`."""
        return cls(
            count=int(tensors[f"{name}.count"][0]),
            mean=np.array(tensors[f"{name}.mean"], dtype=np.float64),
            covariance=np.array(tensors[f"{name}.covariance"], dtype=np.float64),
            norm_mean=float(tensors[f"{name}.norm_mean"][0]),
            norm_quantiles=np.array(tensors[f"{name}.norm_quantiles"], dtype=np.float64),
        )


class Accumulator:
    """Statistics of vectors that come in parts; the same parts in the same order give the same bits.

    Parts are merged by Chan, Golub and LeVeque (1979): with δ = mean_b - mean_a and n = n_a + n_b,
    mean = mean_a + δ n_b / n and S = S_a + S_b + δδᵀ n_a n_b / n, where S = Σ (x - mean)(x - mean)ᵀ.
    """

    def __init__(self, dim: int) -> None:
        self._count = 0
        self._mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))
        self._norms: list[NDArray[np.float64]] = []

    def add(self, vectors: NDArray[np.generic]) -> None:
        """Count in `vectors` `[n, dim]` of any precision, but for vectors of zeros, which stand for none."""
        for start in range(0, len(vectors), _CHUNK):
            self._add(np.asarray(vectors[start : start + _CHUNK], dtype=np.float64))

    def result(self) -> Statistics:
        """The statistics of all that was added; of at least one vector."""
        norms = np.concatenate(self._norms)
        return Statistics(
            count=self._count,
            mean=self._mean,
            covariance=self._scatter / self._count,
            norm_mean=float(norms.mean()),
            norm_quantiles=np.quantile(norms, QUANTILES),
        )

    def _add(self, vectors: NDArray[np.float64]) -> None:
        vectors = vectors[vectors.any(axis=1)]
        if not len(vectors):
            return
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        delta = mean - self._mean
        total = self._count + len(vectors)
        between = np.outer(delta, delta) * (self._count * len(vectors) / total)
        self._scatter += centred.T @ centred + between
        self._mean += delta * (len(vectors) / total)
        self._count = total
        self._norms.append(np.linalg.norm(vectors, axis=1))


def statistics_of(parts: Iterable[NDArray[np.generic]], dim: int) -> Statistics:
    """Statistics of parts `[..., dim]`, merged in the order given."""
    accumulator = Accumulator(dim)
    for part in parts:
        accumulator.add(part.reshape(-1, dim))
    return accumulator.result()
