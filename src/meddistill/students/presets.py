"""The students that have a name, as open_clip model configurations.

| preset | image tower                     | text tower                        | millions    | vocabulary |
|--------|---------------------------------|-----------------------------------|-------------|------------|
| tiny   | timm test_resnet, 64 px         | 2 layers, width 128               | 0.4 + 6.7   | 0.4 + 0.9  |
| nano   | MobileNetV4 conv small, 224 px  | 6 layers, width 256               | 2.8 + 17.5  | 2.8 + 5.8  |
| lite   | EfficientNet-Lite0, 224 px      | 6 layers, width 256               | 3.7 + 17.5  | 3.7 + 5.8  |
| edge   | MobileNetV4 conv medium, 256 px | 10 layers, width 256              | 9.1 + 20.7  | 9.1 + 9.1  |
| small  | ViT-S/16, 224 px                | 10 layers, width 256              | 21.8 + 20.7 | 21.8 + 9.1 |
| base   | ViT-B/16, 224 px                | BERT-like, from files, 256 tokens | 86.2 + 110  | –          |

Millions of parameters of image + text tower (`base`: with BERT base), and the same with
`text: {vocabulary: 4000}`: most of a small text tower is CLIP's table of 49,408 tokens, of width 256 12.6
million parameters, of width 128 6.3 million. `lite` is made of convolutions and ReLU6 alone, for accelerators
that know little else. Other light towers go by their timm name as `image_tower`: `repvit_m0_9`,
`efficientvit_b0`, `efficientvit_b1`, `vit_tiny_patch16_224`.
timm towers keep their own classifier as the projection (`timm_proj: ""`): open_clip's linear projection
takes the width before the head and fails on MobileNetV4, whose head is wider.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from meddistill.students.config import PresetName

ModelConfig = dict[str, Any]
"""An open_clip `model_cfg`: JSON of a third party, so its values stay untyped."""

CLIP_VOCABULARY: Final = 49408


def timm_tower(name: str, *, image_size: int | list[int]) -> ModelConfig:
    """The open_clip `vision_cfg` of a timm tower whose classifier is the projection."""
    return {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "",
        "image_size": image_size,
    }


def clip_text(*, width: int, heads: int, layers: int) -> ModelConfig:
    """The open_clip `text_cfg` of a CLIP text transformer over CLIP's byte-pair vocabulary."""
    return {
        "context_length": 77,
        "vocab_size": CLIP_VOCABULARY,
        "width": width,
        "heads": heads,
        "layers": layers,
    }


def bert_text() -> ModelConfig:
    """The open_clip `text_cfg` of a BERT-like text model, which a recipe names; as in MMKD-CLIP."""
    return deepcopy(_BERT)


_VIT_S: Final = {"image_size": 224, "layers": 12, "width": 384, "patch_size": 16}
_VIT_B: Final = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}
_BERT: Final = {
    "context_length": 256,
    "hf_model_name": "",
    "hf_tokenizer_name": "",
    "hf_model_pretrained": False,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "cls_last_hidden_state_pooler",
}

_PRESETS: Final[Mapping[PresetName, ModelConfig]] = {
    "tiny": {
        "embed_dim": 128,
        "vision_cfg": timm_tower("test_resnet", image_size=64),
        "text_cfg": clip_text(width=128, heads=2, layers=2),
    },
    "nano": {
        "embed_dim": 256,
        "vision_cfg": timm_tower("mobilenetv4_conv_small", image_size=224),
        "text_cfg": clip_text(width=256, heads=4, layers=6),
    },
    "lite": {
        "embed_dim": 256,
        "vision_cfg": timm_tower("tf_efficientnet_lite0", image_size=224),
        "text_cfg": clip_text(width=256, heads=4, layers=6),
    },
    "edge": {
        "embed_dim": 512,
        "vision_cfg": timm_tower("mobilenetv4_conv_medium", image_size=256),
        "text_cfg": clip_text(width=256, heads=4, layers=10),
    },
    "small": {
        "embed_dim": 512,
        "vision_cfg": _VIT_S,
        "text_cfg": clip_text(width=256, heads=4, layers=10),
    },
    "base": {"embed_dim": 512, "vision_cfg": _VIT_B, "text_cfg": _BERT},
}


def preset(name: PresetName) -> ModelConfig:
    """A fresh copy of the preset's configuration."""
    return deepcopy(_PRESETS[name])
