"""MedCLIP (EMNLP 2022, arXiv 2210.10163): Swin-Tiny and Bio_ClinicalBERT, each projected to 512.

The layout of `pytorch_model.bin`, as the authors' package states it. Images: transformers' Swin under
`vision_model.model.`, its pooled output times `vision_model.projection_head` (768 → 512, no bias). Texts:
BERT under `text_model.model.`; the states after its first, second and last layer are averaged over tokens
and over the three, then `text_model.projection_head` (768 → 512). `logit_scale` is the logarithm. The other
published weights, with a ResNet-50, are not read.

Preprocessing: padded to a square with black, 224 px, and turned grey. The raster is in colour, so the model
takes the luma itself, 0.299 R + 0.587 G + 0.114 B, which commutes with a normalisation that is equal for the
three channels; Pillow rounds the grey value, which is not repeated. Pictures below 224 px are enlarged here,
while the package pads them to 224.

A deviation. The package averages over padding too, so that a text's vector depends on the longest text
beside it. Here padding is left out: the vector is the package's for a text on its own, in every batch.

Not verified against the published weights, which could not be fetched: that they load as they are, and that
their projection of texts has no bias; both forms are read.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

from meddistill.imaging.geometry import InputSpec
from meddistill.teachers.adapted import Adapted, count_parameters, version_of
from meddistill.teachers.config import MedClipTeacher
from meddistill.teachers.protocols import PatchGrid
from meddistill.teachers.sources import find_folder, sha256_of
from meddistill.teachers.state_dicts import State, build_transformer, fill, part_of, read_state, tensor_of
from meddistill.teachers.transformers_adapter import Words
from meddistill.teachers.weights import weight_files
from meddistill.teachers.words_folder import text_folder

_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_VISION: Final = "vision"
_LUMA: Final = (0.299, 0.587, 0.114)
_LAYERS: Final = (1, 2, -1)
_MEAN: Final = 0.5862785803043838
_STD: Final = 0.27950088968644304


class MedClip(nn.Module):
    """Both towers, and the last feature map of the image tower."""

    luma: Tensor

    def __init__(
        self, vision: Any, text: Any, projections: tuple[nn.Linear, nn.Linear], words: Words
    ) -> None:
        super().__init__()
        self.vision = vision
        self.text = text
        self.project_image, self.project_text = projections
        self.words = words
        self.register_buffer("luma", torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The pooled output, projected."""
        return self.project_image(self._see(pixels).pooler_output)

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The last feature map, normalised, not projected: 7 by 7 of 768 in the published model."""
        return _patches(self._see(pixels))

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both by one pass."""
        output = self._see(pixels)
        return self.project_image(output.pooler_output), _patches(output)

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Mean over tokens and over the states after the first, second and last layer, projected."""
        tokens = self.words(texts, device=self.luma.device)
        states = self.text(**tokens, output_hidden_states=True).hidden_states
        chosen = torch.stack([states[layer] for layer in _LAYERS]).mean(0)
        mask = tokens["attention_mask"].unsqueeze(-1).to(chosen.dtype)
        return self.project_text((chosen * mask).sum(1) / mask.sum(1))

    def _see(self, pixels: Tensor) -> Any:
        grey = (pixels * self.luma).sum(1, keepdim=True)
        return self.vision(pixel_values=grey.expand(-1, 3, -1, -1))


def _patches(output: Any) -> PatchGrid:
    tokens = output.last_hidden_state
    side = math.isqrt(tokens.shape[1])
    return PatchGrid(tokens=tokens, grid=(side, side))


def adapt(config: MedClipTeacher, *, base: Path) -> Adapted:
    """Load the model that `config` names."""
    source = find_folder(config.model, base=base, revision=config.revision)
    files = weight_files(source.folder, preferred=_WEIGHTS)
    state = read_state(files[0])
    described = text_folder(config.text, source.folder, base=base)
    words = Words(described, context_length=config.context_length, pad_always=False)
    # transformers' defaults are those of swin-tiny-patch4-window7-224.
    own = source.folder / _VISION
    seen = SwinConfig.from_pretrained(own, local_files_only=True) if own.is_dir() else SwinConfig()
    vision = build_transformer(
        SwinModel,
        seen,
        part_of(state, "vision_model.model.", what="the Swin image tower"),
        what="the image tower",
    )
    text = build_transformer(
        BertModel,
        BertConfig.from_pretrained(described, local_files_only=True),
        part_of(state, "text_model.model.", what="the text tower"),
        what="the text tower",
    )
    projections = (_projection(state, "vision_model"), _projection(state, "text_model"))
    model = MedClip(vision, text, projections, words)
    spec = InputSpec(
        height=seen.image_size, width=seen.image_size, resize="pad", mean=(_MEAN,) * 3, std=(_STD,) * 3
    )
    return Adapted(
        model=model,
        source=source.name,
        revision=source.revision,
        library=version_of("transformers"),
        weights_sha256=sha256_of(files),
        parameters=count_parameters(model),
        tokenizer_sha256=words.sha256,
        input=config.input or spec,
        context_length=config.context_length,
        logit_scale=math.exp(float(tensor_of(state, "logit_scale"))),
    )


def _projection(state: State, tower: str) -> nn.Linear:
    weights = part_of(state, f"{tower}.projection_head.", what="a projection")
    dim, width = tensor_of(weights, "weight").shape
    projection = nn.Linear(width, dim, bias="bias" in weights)
    fill(projection, weights, what=f"the projection of {tower}")
    return projection
