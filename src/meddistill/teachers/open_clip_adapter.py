"""CLIP models of open_clip, with their own preprocessing, tokenizer and context length."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from jaxtyping import Bool, Float, Int
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer, default_bpe
from torch import Tensor, nn

from meddistill.clip_tokenizer import clip_tokenizer
from meddistill.errors import TeacherError, first_line
from meddistill.imaging.geometry import InputSpec, Resize
from meddistill.teachers.adapted import (
    Adapted,
    count_parameters,
    interpolation_of,
    read_json,
    tokenizer_hash,
    version_of,
)
from meddistill.teachers.attention import fold_attention
from meddistill.teachers.config import OpenClipTeacher
from meddistill.teachers.protocols import PatchGrid, TextStates, patches_of_map
from meddistill.teachers.sources import Source, find_file, find_folder, sha256_of, sha256_of_lines
from meddistill.teachers.weights import as_one_file, checked_weights, weight_files

_CONFIG: Final = "open_clip_config.json"
_WEIGHTS: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)
_RESIZE: Final[Mapping[str, Resize]] = {"shortest": "crop", "longest": "pad", "squash": "squash"}
_PREPROCESSING: Final = ("mean", "std", "interpolation", "resize_mode")
_FOLDERS: Final = ("local-dir:", "hf-hub:")


class OpenClipModel(nn.Module):
    """Both towers of a CLIP."""

    def __init__(self, model: Any, tokenizer: Callable[[list[str]], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The image tower's projected embedding."""
        return self.model.encode_image(pixels, normalize=False)  # CoCa would, CLIP would not

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """The text tower's projected embedding."""
        tokens = self.tokenizer(list(texts)).to(self.model.logit_scale.device)
        return self.model.encode_text(tokens, normalize=False)

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """The text tower's last states after its final normalisation, not projected."""
        ids = self.tokenizer(list(texts)).to(self.model.logit_scale.device)
        return TextStates(tokens=_text_states(self.model, ids), mask=self._counted(ids))

    def _counted(self, ids: Int[Tensor, "batch context"]) -> Bool[Tensor, "batch context"]:
        """Which tokens are not padding."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        padding = getattr(inner, "pad_token_id", None)
        if padding is None:  # CLIP's own, which pads with 0 behind the end token, the largest of all ids
            places = torch.arange(ids.shape[1], device=ids.device)
            return places <= ids.argmax(dim=1, keepdim=True)
        counted = ids != padding
        counted[:, 0] = True  # an empty text of a tokenizer without special tokens
        return counted

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The last block's patch tokens or feature map, after the tower's final normalisation where it has
        one, not projected.
        """
        outputs = self._intermediates(pixels, intermediates_only=True)
        return patches_of_map(outputs["image_intermediates"][0])

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both by one pass: pooling and projection come after the last block."""
        outputs = self._intermediates(pixels, intermediates_only=False)
        return outputs["image_features"], patches_of_map(outputs["image_intermediates"][0])

    def _intermediates(self, pixels: Tensor, *, intermediates_only: bool) -> Any:
        # The last normalisation of a tower with attentional pooling is that of what was pooled.
        normalize = getattr(self.model.visual, "attn_pool", None) is None
        return self.model.visual.forward_intermediates(
            pixels,
            indices=1,
            intermediates_only=intermediates_only,
            normalize_intermediates=normalize,
            output_fmt="NCHW",
        )


def adapt(config: OpenClipTeacher, *, base: Path) -> Adapted:
    """Load the model that `config` names. Its attention is replaced by an equal that is fast when
    frozen."""
    with _quiet_root():
        if config.model.startswith(_FOLDERS):
            source = find_folder(config.model, base=base, revision=config.revision)
            model, tokenizer, weights = _from_folder(source, config, base=base)
        else:
            source = Source(folder=base, name=f"{config.model} {Path(config.pretrained or '').name}")
            model, tokenizer, weights = _from_architecture(config, base=base)
    fold_attention(model)
    bias = getattr(model, "logit_bias", None)
    return Adapted(
        model=OpenClipModel(model, tokenizer),
        optional=frozenset({"patches", "text_tokens"}),
        source=source.name,
        revision=source.revision,
        library=version_of("open_clip_torch"),
        weights_sha256=sha256_of(weights),
        parameters=count_parameters(model),
        tokenizer_sha256=_tokenizer_hash(tokenizer),
        input=config.input or _input(model.visual.preprocess_cfg),
        context_length=int(tokenizer.context_length),
        logit_scale=float(model.logit_scale.detach().exp()),
        logit_bias=None if bias is None else float(bias.detach()),
    )


def _text_states(model: Any, ids: Tensor) -> Any:
    tower = getattr(model, "text", None)
    if tower is not None and not hasattr(tower, "forward_intermediates"):  # one of transformers
        mask = (ids != tower.config.pad_token_id).long()
        return tower.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
    wanted = {"normalize_intermediates": True, "intermediates_only": True}
    if tower is None:
        outputs = model.forward_intermediates(text=ids, text_indices=1, **wanted)
    else:
        outputs = tower.forward_intermediates(ids, indices=1, output_fmt="NLC", **wanted)
    return outputs["text_intermediates"][0]


def _from_folder(source: Source, config: OpenClipTeacher, *, base: Path) -> tuple[Any, Any, Sequence[Path]]:
    folder = source.folder
    settings = read_json(folder / _CONFIG, what="open_clip's description of the model").get("model_cfg")
    if not isinstance(settings, dict) or not isinstance(settings.get("text_cfg"), dict):
        msg = f"`{_CONFIG}` must have `model_cfg` with `text_cfg`; it has not. Save it with open_clip again."
        raise TeacherError(msg)
    weights = weight_files(folder, preferred=_WEIGHTS)
    text = settings["text_cfg"]
    overrides = {}
    if "hf_model_name" in text:
        overrides["text_cfg"] = text | {
            "hf_model_name": _text_config(folder, config, text["hf_model_name"], base=base),
            "hf_model_pretrained": False,
        }
    name = f"local-dir:{folder}"
    # Architecture first, then exactly the weights whose hash goes on the card.
    model = open_clip.create_model(name, load_weights=False, pretrained_text=False, **overrides)
    with as_one_file(weights) as path:
        open_clip.load_checkpoint(model, str(path))
    return model, _tokenizer(name, text), weights


def _tokenizer(name: str, text: Mapping[str, Any]) -> Any:
    """What `open_clip.get_tokenizer` gives, without building CLIP's own anew."""
    if not {"hf_tokenizer_name", "tokenizer_kwargs"}.isdisjoint(text):
        return open_clip.get_tokenizer(name)
    return clip_tokenizer(text.get("context_length", DEFAULT_CONTEXT_LENGTH))


def _text_config(folder: Path, config: OpenClipTeacher, named: str, *, base: Path) -> str:
    """A folder with the text tower's config.json, for loading offline; `named` where there is none.

    A student's folder names one inside itself.
    """
    if config.text_config is not None:
        return str(find_folder(config.text_config, base=base, revision=None).folder)
    for place in (folder / "text_config", folder / named, folder):
        if (place / "config.json").is_file():
            return str(place)
    return named


def _from_architecture(config: OpenClipTeacher, *, base: Path) -> tuple[Any, Any, Sequence[Path]]:
    known = open_clip.list_models()
    if config.model not in known:
        msg = (
            "`model` must be local-dir:PATH, hf-hub:ID or an architecture of open_clip; got "
            f"{config.model!r}. open_clip.list_models() has all {len(known)} of them."
        )
        raise TeacherError(msg)
    pretrained = str(config.pretrained)
    tag = open_clip.get_pretrained_cfg(config.model, pretrained)
    file = find_file(pretrained, base=base, what="pretrained") if not tag else None
    weights = checked_weights(file or _weights_of_tag(tag, pretrained))
    with as_one_file(weights) as path:
        model = open_clip.create_model(
            config.model,
            pretrained=str(path),
            # Tags trained with QuickGELU give silently wrong numbers in an architecture without it.
            force_quick_gelu=bool(tag.get("quick_gelu")),
            force_preprocess_cfg={name: tag[name] for name in _PREPROCESSING if name in tag},
        )
    return model, open_clip.get_tokenizer(config.model), weights


def _weights_of_tag(tag: Mapping[str, Any], name: str) -> Path:
    if tag.get("hf_hub"):
        identifier, _, file = str(tag["hf_hub"]).rpartition("/")
        folder = find_folder(f"hf-hub:{identifier}", base=Path(), revision=None).folder
        return folder / file if file else weight_files(folder, preferred=_WEIGHTS)[0]
    try:
        return Path(open_clip.download_pretrained(dict(tag)))
    except Exception as error:  # urllib raises unrelated classes
        # A file says nothing of either, and the numbers would be silently wrong.
        quick = ["an architecture with `-quickgelu`"] if tag.get("quick_gelu") else []
        own = ["its preprocessing as `input`"] if any(name in tag for name in _PREPROCESSING) else []
        also = f" with {' and '.join([*quick, *own])}" if quick or own else ""
        msg = (
            f"`pretrained` must be on this disk or reachable; got the tag {name!r}, which is neither cached "
            f"nor fetched ({first_line(error)}). Fetch its weights where there is a network and give the "
            f"file{also}."
        )
        raise TeacherError(msg) from error


def _input(settings: Mapping[str, Any]) -> InputSpec:
    """open_clip's preprocess_cfg as an InputSpec. `random` interpolation is bicubic in evaluation."""
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    resize = _RESIZE[settings.get("resize_mode") or "shortest"]
    if resize == "pad" and settings.get("fill_color"):
        msg = (
            f"`fill_color` of the published preprocessing must be 0; got {settings['fill_color']!r}. "
            "Give the teacher an `input` of its own."
        )
        raise TeacherError(msg)
    interpolation = settings.get("interpolation") or "bicubic"
    return InputSpec(
        height=height,
        width=width,
        resize=resize,
        interpolation=interpolation_of("bicubic" if interpolation == "random" else interpolation),
        mean=_triple(settings["mean"]),
        std=_triple(settings["std"]),
    )


def _triple(value: Any) -> tuple[float, float, float]:
    numbers = [float(each) for each in value] if isinstance(value, Sequence) else [float(value)] * 3
    return (numbers[0], numbers[1], numbers[2])


def _tokenizer_hash(tokenizer: Any) -> str:
    settings = {
        "kind": type(tokenizer).__name__,
        "context_length": tokenizer.context_length,
        "clean": tokenizer.clean_fn.__name__,
    }
    if isinstance(tokenizer, SimpleTokenizer):
        reduction = getattr(tokenizer.reduction_fn, "__name__", "none")
        lines = [f"{key}={value}" for key, value in settings.items()]
        return sha256_of_lines([*lines, f"reduction={reduction}", sha256_of([Path(default_bpe())])])
    if isinstance(tokenizer, HFTokenizer):
        settings |= {"mode": tokenizer.tokenizer_mode, "strip": tokenizer.strip_sep_token}
    return tokenizer_hash(tokenizer.tokenizer, settings=settings)


@contextmanager
def _quiet_root() -> Iterator[None]:
    """open_clip logs to the root logger, which installs a handler for the whole process on first use.

    Its warning that nothing was loaded would be wrong besides: the weights come in a step of their own.
    """
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_not_of_open_clip)
    try:
        yield
    finally:
        root.removeFilter(_not_of_open_clip)
        root.removeHandler(handler)


def _not_of_open_clip(record: logging.LogRecord) -> bool:
    return "open_clip" not in Path(record.pathname).parts
