"""Randomness that depends on what is done, not on when: every seed is derived from names and numbers."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2⁶³) that depends on all parts and their order, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
