"""PMC-CLIP (arXiv 2303.07240): CLIP's modified ResNet-50 and PubMedBERT, in the authors' own weight files.

The layout, as the authors' repository states it. Images: open_clip's modified ResNet with attention pooling
to 768, under `visual.`. Texts: BERT under `text_encoder.`, its first token's last hidden state times
`text_projection` [768, 768], without a bias. `logit_scale` is the logarithm. The fusion transformer and the
head that predicts masked words play no part in either embedding and are left out. Texts are padded to 77
tokens and read without a mask, as in training: the padding is part of what the model reads.

Two files or three: `checkpoint.pt` (a training checkpoint, names begin with `module.`), or the extracted
`image_encoder(resnet50).pth`, `text_encoder.pth` and `text_projection_layer.pth`, which have no logit scale.

Not verified against the published weights, which could not be fetched: that they load as they are. The
training code gives the attention pooling width · 32 / 64 = 32 heads, while the authors' quick start and
those who copied it build it with 8, which loads as well and gives other numbers; `attention_heads` chooses.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from meddistill.errors import TeacherError
from meddistill.imaging.geometry import InputSpec
from meddistill.teachers.adapted import Adapted, count_parameters, version_of
from meddistill.teachers.config import PmcClipTeacher
from meddistill.teachers.sources import find_folder, sha256_of
from meddistill.teachers.state_dicts import (
    State,
    build_transformer,
    fill,
    part_of,
    read_state,
    tensor_of,
)
from meddistill.teachers.transformers_adapter import Words
from meddistill.teachers.weights import check_weights, weight_files
from meddistill.teachers.words_folder import text_folder

_WHOLE: Final = ("model.safetensors", "checkpoint.pt")
_EXTRACTED: Final = {
    "image_encoder(resnet50).pth": "visual.",
    "text_encoder.pth": "text_encoder.",
}
_PROJECTION: Final = "text_projection_layer.pth"
_STRIDE: Final = 32
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)


class PmcClip(nn.Module):
    """Both towers."""

    def __init__(self, visual: nn.Module, text: Any, projection: Tensor, words: Words) -> None:
        super().__init__()
        self.visual = visual
        self.text = text
        self.projection = nn.Parameter(projection)
        self.words = words

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The attention-pooled feature map."""
        return self.visual(pixels)

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """h_[CLS] W, with h the last hidden state and W the projection."""
        tokens = self.words(texts, device=self.projection.device)
        return self.text(**tokens).last_hidden_state[:, 0] @ self.projection


def adapt(config: PmcClipTeacher, *, base: Path) -> Adapted:
    """Load the model that `config` names."""
    source = find_folder(config.model, base=base, revision=config.revision)
    state, files = _read(source.folder)
    described = text_folder(config.text, source.folder, base=base)
    words = Words(described, context_length=config.context_length, pad_always=True)
    visual, size = _visual(part_of(state, "visual.", what="the image tower"), heads=config.attention_heads)
    text = build_transformer(
        BertModel,
        BertConfig.from_pretrained(described, local_files_only=True),
        part_of(state, "text_encoder.", what="the text tower"),
        what="the text tower",
    )
    model = PmcClip(visual, text, tensor_of(state, "text_projection").float(), words)
    scale = state.get("logit_scale")
    return Adapted(
        model=model,
        source=source.name,
        revision=source.revision,
        library=version_of("open_clip_torch"),
        weights_sha256=sha256_of(files),
        parameters=count_parameters(model),
        tokenizer_sha256=words.sha256,
        input=config.input or InputSpec(height=size, width=size, resize="crop", mean=_MEAN, std=_STD),
        context_length=config.context_length,
        logit_scale=None if scale is None else math.exp(float(scale)),
        options={"attention_heads": str(config.attention_heads)},
    )


def _read(folder: Path) -> tuple[State, tuple[Path, ...]]:
    """All tensors under the names of the training checkpoint, and the files that they came from."""
    parts = {folder / name: prefix for name, prefix in _EXTRACTED.items()}
    projection = folder / _PROJECTION
    if any((folder / name).is_file() for name in _WHOLE) or not any(path.is_file() for path in parts):
        files = weight_files(folder, preferred=_WHOLE)
        return read_state(files[0]), files
    files = (*parts, projection)
    for path in files:
        if not path.is_file():
            msg = (
                f"`{folder.name}` must hold {path.name} beside the other extracted files; it does not. "
                "Bring it, or `checkpoint.pt` instead of the three."
            )
            raise TeacherError(msg)
        check_weights(path)
    state: State = {}
    for path, prefix in parts.items():
        state.update({prefix + name: value for name, value in read_state(path).items()})
    state["text_projection"] = torch.load(projection, map_location="cpu", weights_only=True)
    return state, files


def _visual(state: State, *, heads: int) -> tuple[nn.Module, int]:
    """The image tower and the side of its input in pixels; its sizes follow from the weights' shapes."""
    places = len(tensor_of(state, "attnpool.positional_embedding")) - 1
    projection, width = tensor_of(state, "attnpool.c_proj.weight"), 2 * len(tensor_of(state, "conv1.weight"))
    if projection.shape[1] % heads:
        msg = f"`attention_heads` must divide {projection.shape[1]}; got {heads}. The paper's is 32."
        raise TeacherError(msg)
    blocks = [{name.split(".")[1] for name in state if name.startswith(f"layer{n}.")} for n in (1, 2, 3, 4)]
    size = math.isqrt(places) * _STRIDE
    visual = ModifiedResNet(
        layers=[len(block) for block in blocks],
        output_dim=projection.shape[0],
        heads=heads,
        image_size=size,
        width=width,
    )
    fill(visual, state, what="the image tower")
    return visual, size
