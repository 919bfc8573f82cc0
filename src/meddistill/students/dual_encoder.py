"""The student as training and evaluation see it: an open_clip model with its preprocessing and tokenizer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, final

import torch
from jaxtyping import Bool, Float, Int, UInt8
from open_clip.model import CustomTextCLIP
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from meddistill.imaging.geometry import InputSpec
from meddistill.records import Batch, StudentOutputs, to_device
from meddistill.students.buffers import unchanged_buffers
from meddistill.students.presets import ModelConfig
from meddistill.students.tokenizers import CaptionTokenizer

MAX_LOGIT_SCALE: Final = math.log(100.0)
INITIAL_LOGIT_SCALE: Final = math.log(1 / 0.07)
_MULTIPLE: Final = 8


@final
class DualEncoder(nn.Module):
    """An image tower and a text tower that share an embedding space.

    Both towers are open_clip's, so that a saved student loads with stock open_clip. Pixels arrive as uint8
    and are normalised on the module's device: (x / 255 - mean) / std. Embeddings are not normalised.

    Two things differ between training and evaluation, by rounding only. In training, images go through in
    channels-last order (20 to 40 % faster for convolutional towers on a CPU), and the padding that all
    captions of a batch share is cut off where the text tower cannot see it. In evaluation neither is done,
    so that embeddings equal those of the saved folder in stock open_clip exactly.

    Nothing here waits for the device, but for text towers of transformers: the library looks once a pass
    whether anything is masked.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: CustomTextCLIP,
        *,
        model_config: ModelConfig,
        spec: InputSpec,
        tokenizer: CaptionTokenizer,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.model_config = model_config
        self.input = spec
        self.tokenizer = tokenizer
        # Not part of the state: they belong to `input`, and a checkpoint must not carry a second copy.
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def embed_dim(self) -> int:
        """Dimension of the embeddings."""
        return int(self.model_config["embed_dim"])

    @property
    def has_batch_statistics(self) -> bool:
        """Whether in training a row's embedding depends on the rows beside it: batch normalisation."""
        return any(isinstance(each, _BatchNorm) for each in self.model.modules())

    @property
    def context_length(self) -> int:
        """Tokens of a caption, the start and end tokens included."""
        return self.tokenizer.context_length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The factor before the cosines, exp of the parameter; starts at 1 / 0.07."""
        scale: Tensor = self.model.logit_scale.exp().squeeze()
        return scale

    @torch.no_grad()
    def after_update(self) -> None:
        """Keep the logit scale within [1, 100], as CLIP does after every optimiser step."""
        self.model.logit_scale.clamp_(0.0, MAX_LOGIT_SCALE)

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Captions as int32 ids on the host, cleaned by `imaging.normalize_text`."""
        return self.tokenizer(texts)

    def pixels(self, rasters: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 height width"]:
        """Rasters on the module's device, normalised."""
        # NHWC read as NCHW is channels-last already; a copy is what undoes it.
        channels_last = to_device(rasters, self.device).permute(0, 3, 1, 2)
        pixels = (channels_last.to(torch.float32) / 255 - self.mean) / self.std
        return pixels if self.training else pixels.contiguous()

    def embed_images(
        self,
        rasters: UInt8[Tensor, "batch height width 3"],
        *,
        keep: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Image embeddings of rasters at `input.geometry`, not normalised.

        Pixels where `keep`, on the module's device, is False show the mean colour: zero after normalisation.
        """
        pixels = self.pixels(rasters)
        if keep is not None:
            pixels = pixels * keep[:, None]
        embeddings: Tensor = self.model.encode_image(pixels)
        return embeddings

    def embed_tokens(self, tokens: Int[Tensor, "batch context"]) -> Float[Tensor, "batch embed_dim"]:
        """Text embeddings of `tokenize`'s ids, not normalised; zeros where these have no columns.

        The ids are to be on the host, as `tokenize` gives them: in training their length is read from them.
        """
        length = tokens.shape[1]
        if not length:
            return torch.zeros(len(tokens), self.embed_dim, device=self.device)
        if self.training:
            used = _columns_in_use(self.model.text, tokens)
            length = min(length, -(-used // _MULTIPLE) * _MULTIPLE)
        ids = to_device(tokens, self.device).to(torch.int64)
        with _causal_mask_of(self.model.text, length):
            return self._embed_ids(ids[:, :length])

    def forward(
        self, batch: Batch, *, shown: Mapping[str, Bool[Tensor, "batch height width"]] = MappingProxyType({})
    ) -> StudentOutputs:
        """Both embeddings, the logit scale, and image embeddings with pixels shown only where `shown` says.

        Running statistics are those of whole images: whole images are what the student is given later.
        """
        image, text = self.embed_images(batch.rasters), self.embed_tokens(batch.tokens)
        logit_scale = self.logit_scale
        passes = {}
        for name, keep in shown.items():
            with unchanged_buffers(self):
                passes[name] = self.embed_images(batch.rasters, keep=keep)
        return StudentOutputs(image=image, text=text, logit_scale=logit_scale, passes=passes)

    def _embed_ids(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch embed_dim"]:
        embeddings: Tensor = self.model.encode_text(ids)
        return embeddings


def _columns_in_use(text_tower: nn.Module, ids: Int[Tensor, "batch context"]) -> int:
    """Columns that the tower's output depends on; all of them where padding is visible to it."""
    padding = getattr(getattr(text_tower, "config", None), "pad_token_id", None)
    if padding is not None:  # a tower of transformers, to which open_clip gives a mask of its padding
        visible = (ids != padding).any(dim=0)
        return int(visible.nonzero().max()) + 1
    if _ends_at_the_end_token(text_tower):
        return int(ids.argmax(dim=-1).max()) + 1
    return ids.shape[1]


def _ends_at_the_end_token(text_tower: Any) -> bool:
    causal = getattr(text_tower, "attn_mask", None) is not None
    pooled_there = getattr(text_tower, "pool_type", None) == "argmax"
    return causal and pooled_there and getattr(text_tower, "cls_emb", None) is None


@contextmanager
def _causal_mask_of(text_tower: Any, length: int) -> Iterator[None]:
    """open_clip's text transformer adds its causal mask whole, so that shorter rows need a smaller one."""
    whole = getattr(text_tower, "attn_mask", None)
    if whole is None or length == whole.shape[0]:
        yield
        return
    text_tower.attn_mask = whole[:length, :length]
    try:
        yield
    finally:
        text_tower.attn_mask = whole
