"""Numbers from hashes: the same on every platform, in every order, in every process."""

import hashlib


def draw(*parts: str | int) -> int:
    """A number in [0, 2^64), uniform, that depends on `parts` alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def unit_draw(*parts: str | int) -> float:
    """A number in [0, 1), uniform, that depends on `parts` alone."""
    return (draw(*parts) >> 11) * 2.0**-53
