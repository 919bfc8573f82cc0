"""The shortest mixture of gradients whose shares are bounded above."""

from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from meddistill.arrays import Floats

# Gradients that differ by less, relative to their lengths, differ by their rounding in float32.
_ROUNDING: Final = 1e-12
_STIFFNESS: Final = 1e3
_MOST_CORRECTIONS: Final = 20
_TOLERANCE: Final = 1e-13

Matrix = NDArray[np.float64]


def least_norm_pair(
    gramian: Float[Tensor, "*groups 2 2"], cap: Float[Tensor, "*groups 1"]
) -> Float[Tensor, "*groups 2"]:
    """The problem of `least_norm` for two gradients, on the device.

        α_1 = clip(<g_2 − g_1, g_2> / |g_1 − g_2|², 1 − C, C),   α_2 = 1 − α_1,

    and 1/2 each where the gradients are equal (AE-KD's closed form).
    """
    one, other, product = gramian[..., 0, 0], gramian[..., 1, 1], gramian[..., 0, 1]
    apart = one + other - 2 * product
    equal = apart <= _ROUNDING * (one + other)
    # Each by itself: as 1 − α_1 a small α_2 would be rounded.
    shares = torch.stack([other - product, one - product], dim=-1) / torch.where(equal, 1.0, apart)[..., None]
    shares = torch.where(equal[..., None], 0.5, shares)
    return torch.minimum(torch.maximum(shares, 1 - cap), cap)


def least_norm(gramian: Matrix, cap: float) -> Floats:
    """argmin ½ αᵀGα subject to Σ α_t = 1, 0 ≤ α_t ≤ C; G of shape (M, M) is finite, C ≥ 1/M.

    scipy's bounded least squares (BVLS, Stark and Parker 1995) solves

        min |Rᵀα|² + w²(Σ α_t − τ)²,   R·Rᵀ = G,   0 ≤ α_t ≤ C,

    and the method of multipliers moves τ by 1 − Σ α_t until the sum is 1 to rounding, after two or three
    rounds. Nothing is added to G. R is found from the cosines, and columns are brought to unit length, so
    that gradients whose lengths differ by any factor are told apart. Where several α have the least norm,
    one of them.
    """
    # Slow to import, and of no use to other rules.
    from scipy.optimize import lsq_linear

    lengths = np.sqrt(gramian.diagonal())
    if not lengths.any():
        return np.full(len(lengths), 1 / len(lengths))
    root = _root(gramian, lengths)
    system = np.vstack([root / _size(root, lengths, cap), np.full(len(lengths), _STIFFNESS)])
    units = 1 / np.linalg.norm(system, axis=0)
    target = np.append(np.zeros(len(root)), _STIFFNESS)
    for _ in range(_MOST_CORRECTIONS):
        solution = lsq_linear(
            system * units,
            target,
            bounds=(0, cap / units),
            method="bvls",
            tol=1e-15,
            max_iter=50 * len(units),
        )
        shares: Floats = units * solution.x
        missing = 1 - shares.sum()
        if abs(missing) < _TOLERANCE:
            break
        target[-1] += _STIFFNESS * missing
    return shares / shares.sum()


def _root(gramian: Matrix, lengths: Floats) -> Matrix:
    """Rᵀ; of the cosines, since rounding errors are in units of the largest entry."""
    positive = np.where(lengths > 0, lengths, 1.0)
    values, vectors = np.linalg.eigh(gramian / np.outer(positive, positive))
    root: Matrix = (vectors * np.sqrt(values.clip(min=0))).T * lengths
    return root


def _size(root: Matrix, lengths: Floats, cap: float) -> float:
    """The norm of a good guess, by which that of the solution is measured."""
    shortest = lengths[lengths > 0].min()
    # What it would be if the gradients were orthogonal.
    guess = (shortest / np.maximum(lengths, 1e-3 * shortest)) ** 2
    bounded = at_most(torch.from_numpy(guess), torch.tensor([cap], dtype=torch.float64)).numpy()
    norm, sum_of_norms = float(np.linalg.norm(root @ bounded)), float(bounded @ lengths)
    if norm > 1e-9 * sum_of_norms > 0:
        return norm
    return sum_of_norms or float(lengths.max())


def at_most(
    amounts: Float[Tensor, "*groups teachers"], cap: Float[Tensor, "*groups 1"]
) -> Float[Tensor, "*groups teachers"]:
    """min(C, λ·amount) with λ such that each row sums to 1; amounts ≥ 0, and C times the positive ones ≥ 1.

    The proportions of those below C stay. On the device, without waiting for it.
    """
    ordered = amounts.sort(dim=-1, descending=True).values
    # With the first k at C, the others share out what is left.
    left = 1 - cap * torch.arange(amounts.shape[-1], device=amounts.device)
    rest = ordered.flip(-1).cumsum(dim=-1).flip(-1)
    factors = left / torch.where(rest > 0, rest, 1.0)
    kept = (ordered * factors <= cap * (1 + _ROUNDING)).int().argmax(dim=-1, keepdim=True)
    return torch.minimum(cap, amounts * factors.gather(-1, kept))
