"""Whether an architecture that a recipe names is the one of the folder that it starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from meddistill.errors import CheckpointError
from meddistill.students.initial.start import Start, Towers
from meddistill.students.presets import ModelConfig

# What may differ: the input's size, to which position tables are resized, and what no weight depends on.
_FREE: Final = (
    "image_size",
    "context_length",
    "patch_dropout",
    "output_tokens",
    "timm_model_pretrained",
    "timm_drop",
    "timm_drop_path",
    "hf_model_name",
    "hf_model_pretrained",
    "hf_tokenizer_name",
    "tokenizer_kwargs",
    "tokenizer_mode",
    "pad_id",
    "block_type",
)
_HEAD_OF_TIMM: Final = ("timm_pool", "timm_proj", "timm_proj_bias")
_SHAPE: Final = ("layers", "width", "patch_size", "head_width")


def adopt_towers(named: ModelConfig, start: Start, *, towers: Towers) -> None:
    """Give a `named` architecture the folder's own description of the towers that are taken from it.

    Sizes of the input stay those that are named.

    Raises
    ------
    CheckpointError
        If they are not the same; the message has both.
    """
    vision, own = named["vision_cfg"], start.vision
    free = _FREE if start.text is not None else (*_FREE, *_HEAD_OF_TIMM)
    different = _differences(CLIPVisionCfg, vision, own, free=free)
    if bool(named.get("quick_gelu")) != bool(start.common.get("quick_gelu")) and "timm_model_name" not in own:
        different.append("quick_gelu")
    both = start.towers(towers) == "both"
    if both:
        different += _differences(CLIPTextCfg, named["text_cfg"], start.text or {}, free=_FREE)
    if different:
        msg = (
            f"`init` must hold weights of the student's architecture, {described(vision)}; got "
            f"{described(own)} in {start.source}. They differ in {', '.join(different)}. Name no "
            "architecture to take the folder's own, or name another folder."
        )
        raise CheckpointError(msg)
    named["vision_cfg"] = {**own, "image_size": vision.get("image_size", own.get("image_size"))}
    if both:
        named["text_cfg"] = {**(start.text or {}), **_kept(named["text_cfg"])}


def described(vision: Mapping[str, Any]) -> str:
    """An image tower in a few words."""
    if vision.get("timm_model_name"):
        return f"timm's {vision['timm_model_name']}"
    whole = asdict(CLIPVisionCfg(**vision))
    return "a transformer of " + ", ".join(f"{key.replace('_', ' ')} {whole[key]}" for key in _SHAPE)


def _kept(text: Mapping[str, Any]) -> ModelConfig:
    return {key: text[key] for key in ("context_length", "hf_model_name") if key in text}


def _differences(
    kind: Any, named: Mapping[str, Any], own: Mapping[str, Any], *, free: Sequence[str]
) -> list[str]:
    first, second = asdict(kind(**named)), asdict(kind(**own))
    for each in (first, second):
        each["timm_model_name"] = _plain(each.get("timm_model_name"))
    return [
        f"{key} ({first[key]} against {second[key]})"
        for key in first
        if key not in free and first[key] != second[key]
    ]


def _plain(name: Any) -> Any:
    """A timm name without the tag of its weights."""
    return name.partition(".")[0] if isinstance(name, str) else name
