"""A batch of pictures and captions that nothing else is known of."""

import torch
from torch import Tensor

from meddistill.records import Batch


def batch_of(rasters: Tensor, tokens: Tensor) -> Batch:
    rows = torch.arange(len(rasters))
    return Batch(
        samples=rows, views=torch.zeros_like(rows), rasters=rasters, tokens=tokens,
        image_group=rows, text_group=rows, texts=("",) * len(rows), modalities=("",) * len(rows),
    )  # fmt: skip
