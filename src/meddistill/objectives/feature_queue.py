"""The last features of a stream, with room for a fixed number of them."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@final
class FeatureQueue(nn.Module):
    """The newest `size` rows that were pushed, newest first; `filled` says which places hold one.

    Buffers, so that a checkpoint has them. Nothing is read back from the device, whatever number of rows is
    new.
    """

    vectors: Float[Tensor, "size dim"]
    filled: Bool[Tensor, " size"]

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "batch dim"], mask: Bool[Tensor, " batch"]) -> None:
        """Put the rows of the mask in front; what no longer fits is forgotten."""
        there = torch.cat([mask, self.filled])
        order = (~there).to(torch.uint8).argsort(stable=True)[: len(self.filled)]
        self.vectors.copy_(torch.cat([rows.to(self.vectors.dtype), self.vectors])[order])
        self.filled.copy_(there[order])
