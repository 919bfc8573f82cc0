"""Which patches of an image are hidden from the student."""

from typing import Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from meddistill.objectives.config import HiddenPatches

# SplitMix64 (Steele et al. 2014): its increment and the factors of its finaliser, as signed 64-bit numbers.
_INCREMENT: Final = 0x9E3779B97F4A7C15 - 2**64
_FACTORS: Final = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_LAST_SHIFT: Final = 31


def kept_pixels(
    hidden: HiddenPatches, samples: Int[Tensor, " batch"], *, height: int, width: int, seed: int
) -> Bool[Tensor, "batch height width"]:
    """Where the pixels of each row stay, on the device of `samples`; at least one patch always does.

    A row's mask depends on `seed` (in [0, 2⁶³)) and its number in `samples` alone: not on the batch, the
    process, the device, or the state of a generator. Patches at the right and lower edge may be cut.
    """
    side = hidden.patch_size
    rows, columns = -(-height // side), -(-width // side)
    kept = max(1, round((1 - hidden.ratio) * rows * columns))
    patches = torch.arange(rows * columns, device=samples.device)
    keys = _hashed(samples[:, None].long() * _INCREMENT + seed)
    order = _hashed(keys + patches * _INCREMENT).argsort(dim=1, stable=True)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :kept], value=True)
    grid = chosen.view(len(samples), rows, columns)
    pixels = grid.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)
    return pixels[:, :height, :width]


def _hashed(values: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """SplitMix64's finaliser; products wrap round at 64 bits."""
    for shift, factor in _FACTORS:
        values = (values ^ _shifted(values, shift)) * factor
    return values ^ _shifted(values, _LAST_SHIFT)


def _shifted(values: Int[Tensor, "..."], bits: int) -> Int[Tensor, "..."]:
    """A logical shift to the right; torch's own repeats the sign."""
    return (values >> bits) & (2 ** (64 - bits) - 1)
