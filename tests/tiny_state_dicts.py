"""Tiny models in the layouts of PMC-CLIP and MedCLIP, whose authors published bare state dicts."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from meddistill.teachers.config import MedClipTeacher, PmcClipTeacher
from tiny_words import TEXT, save_words, vocabulary_size


def pmc_clip_parts(folder: Path) -> dict[str, Any]:
    """PMC-CLIP's towers and projection, small: what `save_pmc_clip` writes under the published names."""
    from open_clip.modified_resnet import ModifiedResNet
    from transformers import BertConfig, BertModel

    save_words(folder / "text")
    text = TEXT | {"max_position_embeddings": 80}
    settings = BertConfig(vocab_size=vocabulary_size(folder / "text"), pad_token_id=0, **text)
    settings.save_pretrained(folder / "text")
    torch.manual_seed(0)
    visual = ModifiedResNet(layers=[1, 1, 2, 1], output_dim=12, heads=4, image_size=64, width=8)
    for name, weights in visual.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.ones_(weights)  # zero at the start of training, when every block would be its shortcut
    text = BertModel(settings)
    return {"visual": visual.eval(), "text_encoder": text.eval(), "text_projection": torch.randn(16, 12)}


def save_pmc_clip(folder: Path, *, extracted: bool = False) -> PmcClipTeacher:
    """PMC-CLIP as a training checkpoint, with parts that no embedding needs, or as three extracted files."""
    parts = pmc_clip_parts(folder)
    towers = {name: parts[name].state_dict() for name in ("visual", "text_encoder")}
    if extracted:
        torch.save(towers["visual"], folder / "image_encoder(resnet50).pth")
        torch.save(towers["text_encoder"], folder / "text_encoder.pth")
        torch.save(nn.Parameter(parts["text_projection"]), folder / "text_projection_layer.pth")
    else:
        state = {f"{tower}.{name}": value for tower, each in towers.items() for name, value in each.items()}
        state |= {"text_projection": parts["text_projection"], "logit_scale": torch.tensor(2.0)}
        state["fusion_module.resblocks.0.ln_1.weight"] = torch.ones(16)
        # The authors' transformers saved a buffer that today's does not know.
        state["text_encoder.embeddings.position_ids"] = torch.arange(24)[None]
        state = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 3, "state_dict": state}, folder / "checkpoint.pt")
    return PmcClipTeacher(kind="pmc_clip", model=".", attention_heads=4, context_length=20, licence="MIT")


def medclip_parts(folder: Path) -> dict[str, Any]:
    """MedCLIP's towers and projections, small."""
    from transformers import BertConfig, BertModel, SwinConfig, SwinModel

    save_words(folder / "text")
    text = TEXT | {"num_hidden_layers": 3, "max_position_embeddings": 80}
    settings = BertConfig(vocab_size=vocabulary_size(folder / "text"), **text)
    settings.save_pretrained(folder / "text")
    torch.manual_seed(0)
    seen = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=2
    )
    seen.save_pretrained(folder / "vision")
    return {
        "vision_model.model": SwinModel(seen).eval(),
        "vision_model.projection_head": nn.Linear(16, 12, bias=False),
        "text_model.model": BertModel(settings).eval(),
        "text_model.projection_head": nn.Linear(16, 12, bias=False),
    }


def save_medclip(folder: Path) -> MedClipTeacher:
    """MedCLIP as its package saves it, with the names that Swin had in the transformers of its time."""
    from safetensors.torch import load_file

    parts = medclip_parts(folder)
    parts["vision_model.model"].save_pretrained(folder / "saved")  # transformers writes the old names
    parts["text_model.model"].save_pretrained(folder / "saved_text")
    state = {"logit_scale": torch.tensor(2.0)}
    for name, part in parts.items():
        saved = {"vision_model.model": "saved", "text_model.model": "saved_text"}.get(name)
        tensors = load_file(folder / saved / "model.safetensors") if saved else part.state_dict()
        state |= {f"{name}.{key}": value for key, value in tensors.items()}
    torch.save(state, folder / "pytorch_model.bin")
    return MedClipTeacher(kind="medclip", model=".", context_length=20, licence="MIT")
