"""ViT and DINOv2 of transformers as open_clip's vision transformer, which can be of any size."""

from collections.abc import Iterator
from typing import Any, Final

from meddistill.errors import CheckpointError
from meddistill.students.initial.clip_folder import vision_config
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.initial.processor import preprocessing_of_folder
from meddistill.students.initial.renaming import (
    DINOV2,
    DINOV2_SCALES,
    VIT,
    Pair,
    flat,
    layers,
    normalized,
    places_with_bias,
)
from meddistill.students.initial.start import IMAGE, Origin, Start
from meddistill.students.initial.timm_folder import WEIGHTS

_PATCHES: Final = "embeddings.patch_embeddings.projection."


def vit_start(folder: ModelFolder, settings: Any) -> Start:
    """The start that a `ViTModel` or `Dinov2Model` gives, or one with a head, which is left out.

    The student's features before its projection are the model's class token after the last layer norm.
    """
    scaled = settings.model_type == "dinov2"  # by learnt factors, one for each branch of a layer
    if getattr(settings, "use_swiglu_ffn", False):
        msg = (
            "`init` must have plain layers (`use_swiglu_ffn: false`); got SwiGLU ones. Take a smaller DINOv2."
        )
        raise CheckpointError(msg)
    vision, common = vision_config(settings)
    vision["no_ln_pre"] = True
    if scaled:
        vision["ls_init_value"] = settings.layerscale_value
    return Start(
        source=f"{type(settings).__name__.removesuffix('Config')} of transformers, {folder.path.name}",
        files=folder.weights(WEIGHTS),
        vision=vision,
        common=common,
        preprocessing=preprocessing_of_folder(folder),
        table=lambda names, _: dict(_pairs(names, settings.num_hidden_layers, scaled=scaled)),
        fresh=lambda _: frozenset({f"{IMAGE}proj"}),
    )


def _pairs(names: frozenset[str], count: int, *, scaled: bool) -> Iterator[Pair]:
    patches = next(
        (name for name in sorted(names) if name.endswith(f"{_PATCHES}weight")), f"{_PATCHES}weight"
    )
    prefix = patches.removesuffix(f"{_PATCHES}weight")
    yield f"{IMAGE}conv1.weight", Origin((patches,))
    yield f"{IMAGE}class_embedding", Origin((f"{prefix}embeddings.cls_token",), flat)
    places = (f"{prefix}embeddings.position_embeddings", f"{prefix}{_PATCHES}bias")
    yield f"{IMAGE}positional_embedding", Origin(places, places_with_bias)
    parts, scales = (DINOV2, DINOV2_SCALES) if scaled else (VIT, None)
    to, of = f"{IMAGE}transformer.resblocks", f"{prefix}encoder.layer"
    yield from layers(to, of, count=count, parts=parts, scales=scales)
    yield from normalized(f"{IMAGE}ln_post", f"{prefix}layernorm")
