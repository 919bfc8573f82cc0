"""Numbers from hashes: the same on every platform, in every order, in every process."""

import hashlib


def draw(*parts: str | int) -> int:
    """A number in [0, 2^64), uniform, that depends on `parts` alone."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2^63), as torch's generators take them, that depends on `parts` and their types alone.

    What is random in training draws from a seed of what is done, not of when: so it is the same for any
    number of micro-batches and processes, and a resumed run repeats it.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def unit_draw(*parts: str | int) -> float:
    """A number in [0, 1), uniform, that depends on `parts` alone."""
    return (draw(*parts) >> 11) * 2.0**-53
