"""Tiny randomly initialised models in the real on-disk formats of their libraries. Nothing is downloaded.

Each saver fills `folder` and returns a configuration with paths relative to it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from meddistill.imaging import InputSpec
from meddistill.teachers.config import (
    OnnxTeacher,
    OpenClipTeacher,
    PythonTeacher,
    TimmTeacher,
    TransformersTeacher,
)
from tiny_state_dicts import save_medclip, save_pmc_clip
from tiny_words import TEXT, save_words, vocabulary_size

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def save_open_clip(folder: Path, *, seed: int = 0, **preprocessing: Any) -> OpenClipTeacher:
    """An open_clip folder with open_clip's own towers and its SimpleTokenizer."""
    import open_clip
    from safetensors.torch import save_file

    settings = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**settings)
    _write_open_clip(folder, settings, preprocessing)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return OpenClipTeacher(kind="open_clip", model="local-dir:.", licence="MIT")


def save_open_clip_with_bert(folder: Path) -> OpenClipTeacher:
    """An open_clip folder with a Hugging Face text tower and tokenizer, as BiomedCLIP has."""
    import open_clip
    from safetensors.torch import save_file
    from transformers import BertConfig

    save_words(folder)
    BertConfig(vocab_size=vocabulary_size(folder), pad_token_id=0, **TEXT).save_pretrained(
        folder / "text_config"
    )
    text = {
        "hf_model_name": str(folder / "text_config"),
        "hf_tokenizer_name": str(folder),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 20,
    }
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(12, vision, text | {"hf_model_pretrained": False})
    # Published folders name hub ids, which cannot be reached here.
    published = text | {"hf_model_name": "nobody/bert", "hf_tokenizer_name": "nobody/bert"}
    _write_open_clip(folder, {"embed_dim": 12, "vision_cfg": vision, "text_cfg": published}, {})
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return OpenClipTeacher(kind="open_clip", model="local-dir:.", licence="MIT")


def _write_open_clip(folder: Path, settings: dict, preprocessing: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": settings, "preprocess_cfg": {"size": 32, "mode": "RGB"} | preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(content))


def save_clip(folder: Path, **image: Any) -> TransformersTeacher:
    """CLIPModel with its processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    save_words(folder)
    size = vocabulary_size(folder)
    torch.manual_seed(0)
    text = TEXT | {"vocab_size": size, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**(sizes | image)).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT")


def save_siglip(folder: Path) -> TransformersTeacher:
    """SiglipModel, which squashes images and pads texts always."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    save_words(folder)
    torch.manual_seed(0)
    text = TEXT | {"vocab_size": vocabulary_size(folder), "max_position_embeddings": 16}
    SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT")


def save_dual_encoder(folder: Path) -> TransformersTeacher:
    """VisionTextDualEncoderModel of a ViT and a BERT, whose image processor cuts after its resize."""
    from transformers import (
        BertConfig,
        BitImageProcessor,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
        ViTConfig,
    )

    save_words(folder)
    torch.manual_seed(0)
    text = BertConfig(vocab_size=vocabulary_size(folder), **TEXT)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), text, projection_dim=12, logit_scale_init_value=2.0
    )
    VisionTextDualEncoderModel(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    BitImageProcessor(**sizes).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT")


def save_bert(folder: Path, **options: Any) -> TransformersTeacher:
    """BertModel: text only."""
    from transformers import BertConfig, BertModel

    save_words(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=vocabulary_size(folder), **TEXT)).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT", **options)


def save_dinov2(folder: Path, **options: Any) -> TransformersTeacher:
    """Dinov2Model with the processor that RAD-DINO has."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(mlp_ratio=2, **_without(VISION, "intermediate_size"))).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    BitImageProcessor(**sizes, image_mean=[0.53] * 3, image_std=[0.258] * 3).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT", **options)


def save_vit(folder: Path, **options: Any) -> TransformersTeacher:
    """ViTModel, bilinear and squashed."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(**VISION)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT", **options)


def save_sam(folder: Path) -> TransformersTeacher:
    """SamModel, of which only the vision encoder is used."""
    from transformers import SamConfig, SamImageProcessor, SamModel, SamVisionConfig

    torch.manual_seed(0)
    vision = SamVisionConfig(
        **VISION | {"image_size": 64},
        output_channels=8,
        initializer_range=0.1,
        global_attn_indexes=[1],
        window_size=2,
        mlp_dim=32,
    )
    small = {"hidden_size": 8}
    decoder = small | {"num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16}
    decoder |= {"iou_head_hidden_dim": 8, "iou_head_depth": 2, "attention_downsample_rate": 1}
    prompt = small | {"image_size": 64, "patch_size": 8, "mask_input_channels": 4}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    SamModel(config).save_pretrained(folder)
    SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}).save_pretrained(folder)
    return TransformersTeacher(kind="transformers", model=".", licence="MIT")


def save_timm(folder: Path, name: str = "test_vit", **pretrained: Any) -> TimmTeacher:
    """A folder as timm saves it for the hub."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=3)
    model.pretrained_cfg.update({"input_size": (3, 160, 160)} | pretrained)
    save_for_hf(model, str(folder), safe_serialization=True)
    return TimmTeacher(kind="timm", model="local-dir:.", licence="Apache-2.0")


def save_timm_checkpoint(folder: Path) -> TimmTeacher:
    """A training checkpoint with the classifier in it, as a plain pickle of tensors."""
    import timm

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "checkpoint.pth")
    return TimmTeacher(kind="timm", model="test_resnet", checkpoint="checkpoint.pth", licence="Apache-2.0")


class _ImageTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.head = nn.Linear(8, 12)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        grid = self.patches(pixels)
        return self.head(grid.mean((2, 3)).tanh()), grid


class _TextTower(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(size, 12)
        self.places = nn.Parameter(torch.randn(10, 12))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return (self.words(tokens) * self.places).mean(1)


def save_onnx(folder: Path) -> OnnxTeacher:
    """An image graph with patch output, a text graph, and the tokenizer."""
    save_words(folder)
    torch.manual_seed(0)
    towers = {
        "image": (_ImageTower(), torch.zeros(2, 3, 32, 32), ["pixels"], ["image_embeds", "patches"]),
        "text": (
            _TextTower(vocabulary_size(folder)),
            torch.zeros(2, 10, dtype=torch.int64),
            ["tokens"],
            ["text_embeds"],
        ),
    }
    for name, (tower, example, inputs, outputs) in towers.items():
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(folder / f"{name}.onnx"),
            dynamo=False,  # the older exporter; the other takes seconds, and bundles try it
            dynamic_axes={each: {0: "batch"} for each in (*inputs, *outputs)},
            input_names=inputs,
            output_names=outputs,
        )
    return OnnxTeacher(
        kind="onnx",
        model="image.onnx",
        patch_output="patches",
        text_model="text.onnx",
        tokenizer="tokenizer.json",
        context_length=10,
        logit_scale=14.0,
        input=InputSpec(height=32, width=32, resize="pad", interpolation="bilinear", **IMAGENET),
        licence="own",
    )


PYTHON_MODULE = """
import torch
from torch import nn
from meddistill.imaging import InputSpec


class Mine(nn.Module):
    input = InputSpec(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    logit_scale = 20.0
    context_length = 4

    def __init__(self, width, broken):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, width, 8, 8)
        self.drop = nn.Dropout(0.5)
        self.words = nn.Embedding(256, width)
        self.broken = broken

    def embed_images(self, pixels):
        output = self.drop(self.conv(pixels).mean((2, 3)))
        if self.broken == "nan":
            return output * float("nan")
        if self.broken == "rows":
            return output[0]
        return output

    def embed_texts(self, texts):
        device = self.words.weight.device
        rows = [torch.tensor([0, *text.encode()[:4]], device=device) for text in texts]
        return torch.stack([self.words(row).mean(0) for row in rows])


def build(width=6, broken=""):
    return Mine(width, broken)


def build_nothing():
    return object()
"""


def save_python(folder: Path, **options: Any) -> PythonTeacher:
    """A module beside the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_teacher.py").write_text(PYTHON_MODULE)
    return PythonTeacher(kind="python", factory="my_teacher:build", options=options, licence="own")


def _without(settings: dict, name: str) -> dict:
    return {key: value for key, value in settings.items() if key != name}


SAVERS = {
    "open_clip": save_open_clip,
    "open_clip_bert": save_open_clip_with_bert,
    "clip": save_clip,
    "siglip": save_siglip,
    "dual_encoder": save_dual_encoder,
    "bert": save_bert,
    "dinov2": save_dinov2,
    "vit": save_vit,
    "sam": save_sam,
    "timm": save_timm,
    "timm_checkpoint": save_timm_checkpoint,
    "onnx": save_onnx,
    "pmc_clip": save_pmc_clip,
    "medclip": save_medclip,
    "python": save_python,
}
