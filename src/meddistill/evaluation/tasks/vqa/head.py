"""The head that answers: a small transformer decoder, the question's tokens looking at the image's."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig


@final
class AnswerHead(nn.Module):
    """Question tokens as queries over patch tokens as memory, pooled, linear to answers.

    Both sides are normalised (layer norm) and projected to `width`. Each of `layers` blocks
    (`torch.nn.TransformerDecoder`, normalisation first) lets the question's tokens see one another and the
    image's tokens. `pooling` reads the mean over the question's tokens, or a learned token put before them.
    A fusion transformer in the manner of METER and M3AE, smaller, and in one direction: the image's tokens
    do not look at the question's.
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        *,
        answers: int,
        config: VqaClosedSetConfig,
    ) -> None:
        super().__init__()
        width = config.width
        self.image = nn.Sequential(nn.LayerNorm(image_dim), nn.Linear(image_dim, width))
        self.question = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, width))
        block = nn.TransformerDecoderLayer(
            width,
            config.heads,
            4 * width,
            dropout=config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(block, config.layers, norm=nn.LayerNorm(width))
        self.summary = nn.Parameter(torch.zeros(1, 1, width)) if config.pooling == "cls" else None
        self.answer = nn.Linear(width, answers)

    def forward(
        self,
        patches: Float[Tensor, "batch patches image_dim"],
        seen: Bool[Tensor, "batch patches"],
        tokens: Float[Tensor, "batch tokens text_dim"],
        read: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch answers"]:
        """Logits of the answers; `seen` and `read` tell which patches and tokens count."""
        queries = self.question(tokens)
        if self.summary is not None:
            queries = torch.cat([self.summary.expand(len(queries), 1, -1), queries], dim=1)
            read = torch.cat([read.new_ones(len(read), 1), read], dim=1)
        states = self.decoder(
            queries,
            self.image(patches),
            tgt_key_padding_mask=~read,
            memory_key_padding_mask=~seen,
        )
        if self.summary is not None:
            return self.answer(states[:, 0])
        share = read.to(states.dtype).unsqueeze(-1)
        return self.answer((states * share).sum(dim=1) / share.sum(dim=1).clamp_min(1))
