"""Orthogonal matrices that spread every axis evenly over all channels."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def hadamard(dim: int) -> Matrix | None:
    """An orthogonal matrix with entries ±1/√dim; None where the constructions below give none.

    Built as a Kronecker product S ⊗ P (Sylvester 1867): S of size 2^k, P by Paley's (1933) first
    construction from a prime q ≡ 3 (mod 4), of size q + 1, or by his second from q ≡ 1 (mod 4), of size
    2(q + 1). That covers 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408 and 1536 among others. There is no
    such matrix for a dim above 2 that 4 does not divide.
    """
    core = dim // (dim & -dim)  # its odd part
    while core <= dim:
        matrix = _paley(core)
        if matrix is not None:
            while len(matrix) < dim:
                matrix = np.block([[matrix, matrix], [matrix, -matrix]])
            return matrix / np.sqrt(dim)
        core *= 2
    return None


def hartley(dim: int) -> Matrix:
    """H_jk = [cos(2πjk/d) + sin(2πjk/d)]/√d, orthogonal and symmetric for every d (Hartley 1942).

    Squared entries are (1 + sin(4πjk/d))/d: 1/d on average, not each.
    """
    # Reduced before the multiplication by 2π: sin and cos of large arguments lose digits.
    angles = 2 * np.pi * (np.outer(np.arange(dim), np.arange(dim)) % dim) / dim
    cas: Matrix = (np.cos(angles) + np.sin(angles)) / np.sqrt(dim)
    return cas


def equal_variances(rotation: Matrix, variances: Matrix) -> Matrix:
    """G·`rotation`, G orthogonal, such that diag(G R diag(v) Rᵀ Gᵀ) is the mean of v in every channel.

    At most d - 1 rotations of two channels, one below the mean and one above it, each of which brings one of
    them to the mean (Bendel and Mickey 1978; that it can be done is the Schur-Horn theorem).
    """
    turned = rotation.copy()
    covariance = (turned * variances) @ turned.T
    mean = float(variances.mean())
    open_ = list(range(len(variances)))
    while len(open_) > 1:
        excess = covariance.diagonal()[open_] - mean
        low, high = open_[int(excess.argmin())], open_[int(excess.argmax())]
        if low == high:
            break
        # The channel nearer to the mean is brought there: the quotient below is then at most about 1.
        first, second = (low, high) if -excess.min() <= excess.max() else (high, low)
        plane = [first, second]
        givens = _to_mean(covariance[np.ix_(plane, plane)], mean)
        turned[plane] = givens @ turned[plane]
        covariance[plane] = givens @ covariance[plane]
        covariance[:, plane] = covariance[:, plane] @ givens.T
        open_.remove(first)
    return turned


def _to_mean(block: Matrix, mean: float) -> Matrix:
    """The rotation of two channels after which the first has variance `mean`.

    With t = tan θ: a + 2 t b + t² c = 0 for a, c the excesses over the mean, of opposite signs or zero, and
    b the covariance.
    """
    a, b, c = float(block[0, 0]) - mean, float(block[0, 1]), float(block[1, 1]) - mean
    root = np.sqrt(max(b * b - a * c, 0.0))
    denominator = b + root if b >= 0 else b - root
    # The smaller root in the form without cancellation.
    tangent = -a / denominator if denominator else 0.0
    cosine = 1 / np.sqrt(1 + tangent * tangent)
    sine = tangent * cosine
    return np.array([[cosine, sine], [-sine, cosine]])


def _paley(size: int) -> Matrix | None:
    """A matrix of ±1 with orthogonal rows: of size 1, or by Paley's two constructions from a prime."""
    if size == 1:
        return np.ones((1, 1))
    if _is_prime(size - 1) and (size - 1) % 4 == 3:
        return _first(size - 1)
    if size % 4 == 0 and _is_prime(size // 2 - 1) and (size // 2 - 1) % 4 == 1:
        return _second(size // 2 - 1)
    return None


def _first(prime: int) -> Matrix:
    """I + S with S = [[0, 1ᵀ], [-1, Q]], Q_ij = χ(i - j), antisymmetric for q ≡ 3 (mod 4)."""
    skew = np.zeros((prime + 1, prime + 1))
    skew[0, 1:], skew[1:, 0] = 1, -1
    skew[1:, 1:] = _residues(prime)
    return skew + np.eye(prime + 1)


def _second(prime: int) -> Matrix:
    """C ⊗ [[1, 1], [1, -1]] + I ⊗ [[1, -1], [-1, -1]], C = [[0, 1ᵀ], [1, Q]] symmetric for q ≡ 1 (mod 4)."""
    conference = np.zeros((prime + 1, prime + 1))
    conference[0, 1:], conference[1:, 0] = 1, 1
    conference[1:, 1:] = _residues(prime)
    outside = np.kron(conference, np.array([[1.0, 1.0], [1.0, -1.0]]))
    return outside + np.kron(np.eye(prime + 1), np.array([[1.0, -1.0], [-1.0, -1.0]]))


def _residues(prime: int) -> Matrix:
    """χ(i - j): 1 where the difference is a square modulo the prime, -1 where it is none, 0 where equal."""
    character = np.full(prime, -1.0)
    character[np.arange(1, prime) ** 2 % prime] = 1.0
    character[0] = 0.0
    index = np.arange(prime)
    return character[(index[:, None] - index[None, :]) % prime]


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))
