"""Models of transformers: dual encoders, image encoders, text encoders, SAM's vision encoder.

Only the library's own classes are used; code that comes with a model is never run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from meddistill.errors import TeacherError
from meddistill.teachers.adapted import Adapted, count_parameters, read_json, tokenizer_hash, version_of
from meddistill.teachers.config import Pooling, TransformersTeacher
from meddistill.teachers.processors import Preprocessing, read_processor
from meddistill.teachers.protocols import PatchGrid, TextStates, patches_of_map
from meddistill.teachers.sources import Source, find_folder, sha256_of
from meddistill.teachers.state_dicts import no_bars
from meddistill.teachers.weights import weight_files

_WEIGHTS: Final = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
)
_TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
_IMAGES_ONLY: Final = ", or set `tower: image`."
_UNBOUNDED: Final = 1_000_000


class Words:
    """A folder's tokenizer, called as its model was trained: padded, truncated, masked."""

    def __init__(self, folder: Path, *, context_length: int, pad_always: bool) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.context_length = context_length
        self._pad_always = pad_always
        self.sha256 = tokenizer_hash(
            self.tokenizer, settings={"context_length": context_length, "pad_always": pad_always}
        )

    def __call__(self, texts: Sequence[str], *, device: torch.device) -> dict[str, Tensor]:
        """Model inputs on `device`."""
        tokens = self._tokens(texts)
        # SigLIP was trained without a mask: its padding is part of what it reads.
        names = ("input_ids",) if self._pad_always else tuple(tokens)
        return {name: tokens[name].to(device) for name in names}

    def counted(self, texts: Sequence[str], *, device: torch.device) -> Bool[Tensor, "batch length"]:
        """Which of the tokens of the model inputs are not padding."""
        return self._tokens(texts, return_attention_mask=True)["attention_mask"].bool().to(device)

    def _tokens(self, texts: Sequence[str], **more: bool) -> Any:
        return self.tokenizer(
            list(texts),
            padding="max_length" if self._pad_always else True,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
            **more,
        )


class DualImages(nn.Module):
    """The image side of CLIP, SigLIP or a dual encoder, after its projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The projected embedding."""
        return _features(self.model.get_image_features(pixel_values=pixels))


class DualTexts(nn.Module):
    """The text side of CLIP, SigLIP or a dual encoder, after its projection."""

    def __init__(self, model: Any, words: Words) -> None:
        super().__init__()
        self.model = model
        self.words = words

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """The projected embedding."""
        return _features(self.model.get_text_features(**self.words(texts, device=self.model.device)))

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """The text tower's last hidden state."""
        return _states(self.model.text_model, self.words, texts)


class Dual(DualTexts):
    """Both sides."""

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The projected embedding."""
        return _features(self.model.get_image_features(pixel_values=pixels))


class TextEncoder(nn.Module):
    """A BERT-like model with a pooling."""

    def __init__(self, model: Any, words: Words, *, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.words = words
        self.pooling = pooling

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """The pooled last hidden state."""
        tokens = self.words(texts, device=self.model.device)
        output = self.model(**tokens)
        if self.pooling == "pooler":
            return _pooler(output)
        states = output.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """The last hidden state."""
        return _states(self.model, self.words, texts)


class ImageEncoder(nn.Module):
    """A ViT-like or convolutional model with a pooling, and its patch tokens."""

    def __init__(self, model: Any, *, pooling: Pooling | None) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Class token, mean of patch tokens, or the model's pooler; see `TransformersTeacher`."""
        output = self.model(pixel_values=pixels)
        if self.pooling == "pooler":
            return _pooler(output).flatten(1)
        return self._pooled(*self._split(output.last_hidden_state, pixels))

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The last hidden state without class and register tokens."""
        return self._split(self.model(pixel_values=pixels).last_hidden_state, pixels)[1]

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both by one pass."""
        output = self.model(pixel_values=pixels)
        first, patches = self._split(output.last_hidden_state, pixels)
        if self.pooling == "pooler":
            return _pooler(output).flatten(1), patches
        return self._pooled(first, patches), patches

    def _pooled(self, first: Tensor | None, patches: PatchGrid) -> Float[Tensor, "batch dim"]:
        if self.pooling == "mean" or (self.pooling is None and first is None):
            return patches.tokens.mean(1)
        if first is None:
            msg = "`pooling` must be mean or pooler for a model without a class token; got 'cls'."
            raise TeacherError(msg)
        return first

    def _split(self, states: Tensor, pixels: Tensor) -> tuple[Tensor | None, PatchGrid]:
        if states.dim() == 4:
            return None, patches_of_map(states)
        grid = self._grid(states.shape[1], pixels)
        leading = states.shape[1] - grid[0] * grid[1]
        patches = PatchGrid(tokens=states[:, leading:], grid=grid)
        return (states[:, 0] if leading else None), patches

    def _grid(self, tokens: int, pixels: Tensor) -> tuple[int, int]:
        size = getattr(self.model.config, "patch_size", None)
        if size is not None:
            rows, columns = (size, size) if isinstance(size, int) else (size[0], size[-1])
            grid = (pixels.shape[2] // rows, pixels.shape[3] // columns)
            if grid[0] * grid[1] <= tokens:
                return grid
        side = math.isqrt(tokens)  # hierarchical models, whose last grid is coarser than their patches
        if side * side != tokens:
            msg = f"patch tokens must lie on a known grid; got {tokens} tokens. Use a `python` teacher."
            raise TeacherError(msg)
        return side, side


class SamEncoder(nn.Module):
    """SAM's vision encoder: a grid of neck features, and their mean as the image's embedding."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Mean of the neck's features over the grid."""
        return self.embed_images_with_patches(pixels)[0]

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The neck's features, 64 by 64 of 256 in the published models."""
        return self.embed_images_with_patches(pixels)[1]

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both by one pass."""
        grid = self.encoder(pixel_values=pixels).last_hidden_state
        return grid.mean((2, 3)), patches_of_map(grid)


@dataclass(frozen=True, kw_only=True)
class _Built:
    model: nn.Module
    words: Words | None = None
    sees_images: bool = True
    scores: Any = None  # the dual encoder, for its logit scale and bias


def adapt(config: TransformersTeacher, *, base: Path) -> Adapted:
    """Load the model that `config` names."""
    source = find_folder(config.model, base=base, revision=config.revision)
    kind = str(read_json(source.folder / "config.json", what="the model's description").get("model_type"))
    weights = weight_files(source.folder, preferred=_WEIGHTS)
    built = _build(config, source, kind=kind)
    images = _preprocessing(config, source.folder) if built.sees_images else None
    options = {"model_type": kind}
    options |= {name: value for name in ("tower", "pooling") if (value := getattr(config, name)) is not None}
    return Adapted(
        model=built.model,
        source=source.name,
        revision=source.revision,
        library=version_of("transformers"),
        weights_sha256=sha256_of(weights),
        parameters=count_parameters(built.model),
        tokenizer_sha256=built.words.sha256 if built.words else None,
        input=images.spec if images else None,
        centre_crop=images.centre_crop if images else None,
        context_length=built.words.context_length if built.words else None,
        options=options,
        optional=frozenset({"patches", "text_tokens"}),
        **_scores(built.scores),
    )


def _build(config: TransformersTeacher, source: Source, *, kind: str) -> _Built:
    model = _load(source.folder, pooling=config.pooling)
    dual = all(hasattr(model, f"get_{tower}_features") for tower in ("image", "text"))
    segments = not dual and hasattr(model, "vision_encoder")  # SAM and its kin
    _check_options(config, kind=kind, dual=dual, own_pooling=dual or segments)
    if segments:
        return _Built(model=SamEncoder(model.vision_encoder))
    if dual:
        if config.tower == "image":
            return _Built(model=DualImages(model))
        # Those of the sigmoid loss, which has a bias, were trained on padding without a mask.
        words = _words(
            config, source.folder, model.config, pad_always=hasattr(model, "logit_bias"), or_else=_IMAGES_ONLY
        )
        if config.tower == "text":
            return _Built(model=DualTexts(model, words), words=words, sees_images=False)
        return _Built(model=Dual(model, words), words=words, scores=model)
    if model.main_input_name == "pixel_values":
        return _Built(model=ImageEncoder(model, pooling=config.pooling))
    words = _words(config, source.folder, model.config, pad_always=False)
    encoder = TextEncoder(model, words, pooling=config.pooling or "cls")
    return _Built(model=encoder, words=words, sees_images=False)


def _check_options(config: TransformersTeacher, *, kind: str, dual: bool, own_pooling: bool) -> None:
    if config.tower is not None and not dual:
        msg = f"`tower` must be left out for a model with one tower ({kind}); got {config.tower!r}."
        raise TeacherError(msg)
    if config.pooling is not None and own_pooling:
        msg = f"`pooling` must be left out for {kind}, which has its own; got {config.pooling!r}."
        raise TeacherError(msg)


def _load(folder: Path, *, pooling: Pooling | None) -> Any:
    settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with no_bars():
        model, info = AutoModel.from_pretrained(
            folder,
            config=settings,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = [key for key in info["missing_keys"] if pooling == "pooler" or "pooler" not in key.split(".")]
    if missing:
        # transformers fills missing weights with random numbers and goes on.
        shown = ", ".join(sorted(missing)[:3])
        msg = (
            f"`{folder.name}` must hold every weight of {type(model).__name__}; {len(missing)} are missing, "
            f"among them {shown}. Take the whole model, or another `pooling` if it is the pooler."
        )
        raise TeacherError(msg)
    return model


def _preprocessing(config: TransformersTeacher, folder: Path) -> Preprocessing:
    return Preprocessing(spec=config.input) if config.input else read_processor(folder)


def _words(
    config: TransformersTeacher, folder: Path, settings: Any, *, pad_always: bool, or_else: str = "."
) -> Words:
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        msg = (
            f"`{folder.name}` must hold its tokenizer ({', '.join(_TOKENIZER_FILES)}); it does not. Copy the "
            f"whole folder{or_else}"
        )
        raise TeacherError(msg)
    length = config.context_length or _context_length(folder, getattr(settings, "text_config", settings))
    return Words(folder, context_length=length, pad_always=pad_always)


def _context_length(folder: Path, settings: Any) -> int:
    """The smaller of what the tokenizer and the position table allow."""
    stated = AutoTokenizer.from_pretrained(folder, local_files_only=True).model_max_length
    positions = getattr(settings, "max_position_embeddings", None)
    if positions is not None and "roberta" in str(settings.model_type):
        # RoBERTa's positions start behind the padding index.
        positions -= int(settings.pad_token_id) + 1
    known = [int(value) for value in (stated, positions) if value is not None and value < _UNBOUNDED]
    if not known:
        msg = "`context_length` must be given: neither tokenizer nor model states how long a text may be."
        raise TeacherError(msg)
    return min(known)


def _scores(model: Any) -> Mapping[str, float | None]:
    if model is None:
        return {}
    bias = getattr(model, "logit_bias", None)
    return {
        "logit_scale": float(model.logit_scale.detach().exp()),
        "logit_bias": None if bias is None else float(bias.detach()),
    }


def _states(model: Any, words: Words, texts: Sequence[str]) -> TextStates:
    states = model(**words(texts, device=model.device)).last_hidden_state
    return TextStates(tokens=states, mask=words.counted(texts, device=states.device))


def _features(output: Any) -> Tensor:
    """transformers 5 returns a record whose pooled output is projected, older ones the tensor."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _pooler(output: Any) -> Tensor:
    if output.pooler_output is None:
        msg = "`pooling` must be cls or mean for a model without a pooler; got 'pooler'."
        raise TeacherError(msg)
    return output.pooler_output
