"""Copies of a model's towers that can be trained, for tasks that tune them."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final, final

import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from meddistill.data.loader import ImageBatches
from meddistill.data.samples import Samples
from meddistill.imaging import Geometry
from meddistill.students.dual_encoder import DualEncoder

_AT_ONCE: Final = 64


class TrainableTowers(nn.Module):
    """Both towers of a model with gradients. The copy is the caller's; the model itself stays as it is."""

    @abstractmethod
    def rasters(self, samples: Samples) -> Tensor:
        """uint8 rasters [n, height, width, 3] of samples, in their order, as the image tower takes them."""

    @abstractmethod
    def image_tokens(self, rasters: Tensor) -> Tensor:
        """Patch tokens [b, p, d] of rasters; a sequence of one where the tower has none to give."""

    @abstractmethod
    def text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states [b, l, e] of texts before pooling, and which of them count [b, l]."""


@final
class StudentTowers(TrainableTowers):
    """A copy of a student.

    Tokens are those of the last layer after the tower's final normalisation, not projected. Of a text that
    ends with an end token, those up to it count; of other towers, all but the padding.
    """

    def __init__(self, student: DualEncoder) -> None:
        super().__init__()
        self.student = copy.deepcopy(student)
        self.student.requires_grad_(requires_grad=True)

    def rasters(self, samples: Samples) -> Tensor:
        """uint8 rasters of the student's geometry."""
        return rasters_of(samples, self.student.input.geometry)

    def image_tokens(self, rasters: Tensor) -> Tensor:
        """Patch tokens; of towers that are neither open_clip's transformer nor timm's the embedding."""
        pixels = self.student.pixels(rasters)
        tower = self.student.model.visual
        if isinstance(tower, VisionTransformer | TimmModel):
            return _patches(tower, pixels)
        return self.student.model.encode_image(pixels).unsqueeze(1)

    def text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states; of towers that are neither open_clip's nor transformers' the embedding."""
        ids = self.student.tokenise(texts).to(self.student.device, torch.int64)
        tower = self.student.model.text
        if isinstance(tower, TextTransformer):
            return _states(tower, ids)
        if isinstance(tower, HFTextEncoder):
            read = ids != tower.config.pad_token_id
            states = tower.transformer(input_ids=ids, attention_mask=read.long()).last_hidden_state
            return states, read
        pooled = self.student.model.encode_text(ids).unsqueeze(1)
        return pooled, pooled.new_ones(pooled.shape[:2], dtype=torch.bool)


def rasters_of(samples: Samples, geometry: Geometry) -> Tensor:
    """uint8 rasters [n, height, width, 3] of samples, in their order."""
    batches = ImageBatches(samples, frozenset({geometry}), batch_size=_AT_ONCE)
    return torch.cat([rasters[geometry] for _, rasters in batches])


def _patches(tower: Any, pixels: Tensor) -> Tensor:
    found = tower.forward_intermediates(
        pixels,
        indices=1,
        intermediates_only=True,
        normalize_intermediates=True,
        output_fmt="NCHW",
    )
    grid: Tensor = found["image_intermediates"][-1]
    return grid.flatten(2).transpose(1, 2)


def _states(tower: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    found = tower.forward_intermediates(
        ids, indices=1, intermediates_only=True, normalize_intermediates=True, output_fmt="NLC"
    )
    states: Tensor = found["text_intermediates"][-1]
    if tower.pool_type == "argmax" and tower.cls_emb is None:
        places = torch.arange(ids.shape[1], device=ids.device)
        return states, places[None] <= ids.argmax(dim=1)[:, None]
    read = ids[:, : states.shape[1]] != getattr(tower, "pad_id", 0)
    return states, read
