"""CLIP of transformers, whole or its vision tower alone, as open_clip's own architecture."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from meddistill.errors import CheckpointError
from meddistill.students.initial.folder import ModelFolder, tensor_names
from meddistill.students.initial.processor import preprocessing_of_folder
from meddistill.students.initial.renaming import (
    CLIP,
    Pair,
    activation,
    flat,
    layers,
    normalized,
    transposed,
)
from meddistill.students.initial.start import IMAGE, Origin, Start
from meddistill.students.initial.timm_folder import WEIGHTS, check_channels
from meddistill.students.presets import CLIP_VOCABULARY, ModelConfig

TOKENIZERS: Final = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
_VISION: Final = "vision_model."
_PROJECTION: Final = "visual_projection.weight"
# The end token that configurations had before transformers 4.31, whatever the tokenizer's is.
_LEGACY_END: Final = 2
_USUAL_RATIO: Final = 4.0
_USUAL_EPSILON: Final = 1e-5
_REMEDY: Final = "Copy the model's whole folder, or start the image tower alone: `init_towers: image`."


def clip_start(folder: ModelFolder, settings: Any) -> Start:
    """The start that a `CLIPModel`, `CLIPVisionModel` or `CLIPVisionModelWithProjection` gives.

    Its outputs are transformers' own: pooling, activation and epsilon are taken over.
    """
    whole, files = settings.model_type == "clip", folder.weights(WEIGHTS)
    vision_settings = settings.vision_config if whole else settings
    text = text_config(settings.text_config, folder) if whole else None
    vision, common = vision_config(vision_settings)
    if whole:
        common["embed_dim"] = settings.projection_dim
        if vision_settings.hidden_act != settings.text_config.hidden_act:
            msg = (
                "`init` must have one activation in both towers, since open_clip has one; got "
                f"{vision_settings.hidden_act} and {settings.text_config.hidden_act}. Start from another one."
            )
            raise CheckpointError(msg)
    elif _PROJECTION in tensor_names(files):
        common["embed_dim"] = settings.projection_dim
    count = {"vision": vision_settings.num_hidden_layers}
    if whole:
        count["text"] = settings.text_config.num_hidden_layers
    return Start(
        source=f"{type(settings).__name__.removesuffix('Config')} of transformers, {folder.path.name}",
        files=files,
        vision=vision,
        text=text,
        common=common,
        preprocessing=preprocessing_of_folder(folder),
        table=lambda names, _: dict(_pairs(names, count)),
        fresh=lambda _: frozenset() if "embed_dim" in common else frozenset({f"{IMAGE}proj"}),
    )


def vision_config(settings: Any) -> tuple[ModelConfig, ModelConfig]:
    """open_clip's `vision_cfg` of a vision transformer of transformers, and what stands beside it."""
    check_channels(settings.num_channels)
    act_config = activation(settings.hidden_act)
    if act_config is None:
        msg = (
            f"`init` must have an activation that open_clip has; got {settings.hidden_act!r}. Take it as a "
            "teacher instead."
        )
        raise CheckpointError(msg)
    common = {key: value for key, value in act_config.items() if key == "quick_gelu"}
    vision: ModelConfig = {
        "image_size": settings.image_size,
        "layers": settings.num_hidden_layers,
        "width": settings.hidden_size,
        "head_width": settings.hidden_size // settings.num_attention_heads,
        "patch_size": settings.patch_size,
        **_options(settings, act_config),
    }
    return vision, common


def _options(settings: Any, act_config: Mapping[str, Any]) -> ModelConfig:
    """What open_clip has other defaults for: width of the hidden layers, epsilon, activation."""
    stated = getattr(settings, "mlp_ratio", None)  # of DINOv2
    ratio = float(stated or settings.intermediate_size / settings.hidden_size)
    options: ModelConfig = {"mlp_ratio": ratio} if ratio != _USUAL_RATIO else {}
    if settings.layer_norm_eps != _USUAL_EPSILON:
        options["norm_kwargs"] = {"eps": settings.layer_norm_eps}
    return {**options, **{key: value for key, value in act_config.items() if key == "act_kwargs"}}


def text_config(settings: Any, folder: ModelFolder) -> ModelConfig:
    """open_clip's `text_cfg` of CLIP's text transformer."""
    act_config = activation(settings.hidden_act) or {}
    end, legacy = settings.eos_token_id, settings.eos_token_id == _LEGACY_END
    highest = legacy or end == settings.vocab_size - 1
    text: ModelConfig = {
        "context_length": settings.max_position_embeddings,
        "vocab_size": settings.vocab_size,
        "width": settings.hidden_size,
        "heads": settings.num_attention_heads,
        "layers": settings.num_hidden_layers,
        **_options(settings, act_config),
        **({} if highest else {"pool_type": "eos", "eos_id": end}),
    }
    if any(name in folder.files for name in TOKENIZERS):
        text["hf_tokenizer_name"] = str(folder.path)
        _check_tokenizer(folder, text, end=None if highest else end)
    elif settings.vocab_size != CLIP_VOCABULARY:
        msg = (
            f"`init` must hold the tokenizer of its text tower ({', '.join(TOKENIZERS[:2])}); {folder.path} "
            f"does not. {_REMEDY}"
        )
        raise CheckpointError(msg)
    return text


def _check_tokenizer(folder: ModelFolder, text: ModelConfig, *, end: int | None) -> None:
    """Refuse a tokenizer whose last token is not the one at which the tower pools."""
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)("a").input_ids
    wanted = max(ids) if end is None else end
    if ids[-1] != wanted or max(ids) >= text["vocab_size"]:
        msg = (
            "`init` must hold the tokenizer that its text tower was trained with, whose texts end with token "
            f"{wanted} of {text['vocab_size']:,}; got {ids[-1]} at the end, {max(ids)} at most. {_REMEDY}"
        )
        raise CheckpointError(msg)


def _pairs(names: frozenset[str], count: dict[str, int]) -> Iterator[Pair]:
    prefix = _VISION if any(name.startswith(_VISION) for name in names) else ""
    yield f"{IMAGE}class_embedding", Origin((f"{prefix}embeddings.class_embedding",), flat)
    yield f"{IMAGE}conv1.weight", Origin((f"{prefix}embeddings.patch_embedding.weight",))
    yield f"{IMAGE}positional_embedding", Origin((f"{prefix}embeddings.position_embedding.weight",))
    yield from normalized(f"{IMAGE}ln_pre", f"{prefix}pre_layrnorm")
    yield from layers(
        f"{IMAGE}transformer.resblocks", f"{prefix}encoder.layers", count=count["vision"], parts=CLIP
    )
    yield from normalized(f"{IMAGE}ln_post", f"{prefix}post_layernorm")
    if _PROJECTION in names:
        yield f"{IMAGE}proj", Origin((_PROJECTION,), transposed)
    if "text" in count:
        yield from _text_pairs(count["text"])


def _text_pairs(count: int) -> Iterator[Pair]:
    yield "text.token_embedding.weight", Origin(("text_model.embeddings.token_embedding.weight",))
    yield "text.positional_embedding", Origin(("text_model.embeddings.position_embedding.weight",))
    yield from layers("text.transformer.resblocks", "text_model.encoder.layers", count=count, parts=CLIP)
    yield from normalized("text.ln_final", "text_model.final_layer_norm")
    yield "text.text_projection", Origin(("text_projection.weight",), transposed)
    yield "logit_scale", Origin(("logit_scale",))
