"""open_clip's other towers: what a trial shows they can do, and the library's own numbers."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.teachers.config import OpenClipTeacher
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

TEXTS = ["Chest X-ray: no pneumonia.", "a lesion of the left lung with a long description of its border"]
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
WORDS = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
POOLED = VIT | {"attentional_pool": True, "attn_pooler_heads": 2}
COCA = {
    "embed_dim": 12,
    "vision_cfg": POOLED | {"output_tokens": True},
    "text_cfg": WORDS | {"embed_cls": True, "output_tokens": True},
    "multimodal_cfg": WORDS | {"layers": 1, "attn_pooler_heads": 2},
    "custom_text": True,
}
TIMM = {
    "timm_model_name": "test_vit",
    "timm_model_pretrained": False,
    "timm_pool": "map",
    "timm_proj": "none",
}
SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": TIMM | {"image_size": 160},
    "text_cfg": WORDS | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
TOWERS: dict[str, dict[str, Any]] = {
    "coca": COCA,
    # Widths at which the pool's normalisation would fit the tokens, without being theirs.
    "coca of one width": COCA | {"embed_dim": 32},
    "attentional pooling": {"embed_dim": 12, "vision_cfg": POOLED, "text_cfg": WORDS},
    "siglip": SIGLIP,
    "modified resnet": {"embed_dim": 12, "vision_cfg": RESNET, "text_cfg": WORDS},
}
Pair = tuple[Any, FrozenTeacher]


def build(settings: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    arguments = {key: value for key, value in settings.items() if key != "custom_text"}
    if "multimodal_cfg" in settings:
        return open_clip.CoCa(**arguments).eval()
    kind = open_clip.CustomTextCLIP if settings.get("custom_text") else open_clip.CLIP
    return kind(**arguments).eval()


@pytest.fixture(scope="module", params=TOWERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder, settings = tmp_path_factory.mktemp("model"), TOWERS[request.param]
    model = build(settings)
    size = settings["vision_cfg"]["image_size"]
    tiny._write_open_clip(folder, settings, {"size": size})
    save_file({key: value.clone().contiguous() for key, value in model.state_dict().items()},
              folder / "open_clip_model.safetensors")  # fmt: skip
    config = OpenClipTeacher(kind="open_clip", model="local-dir:.", licence="MIT")
    return model, load_teacher("t", config, base=folder)


def test_embeddings_are_the_librarys(pair: Pair) -> None:
    model, teacher = pair
    side = teacher.card.input.height  # type: ignore[union-attr]
    rasters = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    tokens = open_clip.SimpleTokenizer(context_length=20)(TEXTS)
    with torch.no_grad():
        images = model.encode_image(teacher.pixels(rasters), normalize=False)
        texts = model.encode_text(tokens, normalize=False)
    torch.testing.assert_close(teacher.image_embeddings(rasters), images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher.text_embeddings(TEXTS), texts, rtol=1e-4, atol=1e-5)


def test_what_the_card_names_works_for_several_at_once(pair: Pair) -> None:
    model, teacher = pair
    assert teacher.card.signals == {"image", "text", "patches", "text_tokens"}
    side = teacher.card.input.height  # type: ignore[union-attr]
    rasters = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8)
    patches, states = teacher.patch_tokens(rasters), teacher.text_tokens(TEXTS)
    torch.testing.assert_close(patches.tokens[1:], teacher.patch_tokens(rasters[1:]).tokens)
    assert states.tokens.shape[:2] == states.mask.shape == (2, 20)
    ids = open_clip.SimpleTokenizer(context_length=20)(TEXTS)
    assert torch.equal(states.mask, ids != 0)
    if getattr(model.visual, "attn_pool", None) is not None:
        seen = []
        model.visual.attn_pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            model.encode_image(teacher.pixels(rasters))
        torch.testing.assert_close(patches.tokens, seen[0][:, 1:], rtol=1e-4, atol=1e-5)


def test_a_capability_whose_trial_fails_is_left_out_with_its_reason(tmp_path: Path, monkeypatch: Any) -> None:
    config = tiny.save_open_clip(tmp_path)

    def refuses(*_: Any, **__: Any) -> None:
        reason = "no intermediates here"
        raise NotImplementedError(reason)

    monkeypatch.setattr(open_clip.transformer.VisionTransformer, "forward_intermediates", refuses)
    teacher = load_teacher("t", config, base=tmp_path)
    assert teacher.card.signals == {"image", "text", "text_tokens"}
    assert "patches" not in teacher.card.dims
    with pytest.raises(TeacherError, match=r"signal patches.*no intermediates here"):
        teacher.patch_tokens(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
