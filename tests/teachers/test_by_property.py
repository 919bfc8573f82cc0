"""What a model can do shows by its methods and by trial, not by a list of names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.teachers.config import TransformersTeacher
from meddistill.teachers.load import load_teacher
from tiny_words import TEXT, save_words, vocabulary_size

TEXTS = ["Chest X-ray: no pneumonia.", "a lesion of the left"]
TEACHER = TransformersTeacher(kind="transformers", model=".", licence="MIT")


def chinese_clip(folder: Path) -> None:
    from transformers import ChineseCLIPConfig, ChineseCLIPModel, CLIPImageProcessor

    save_words(folder)
    torch.manual_seed(0)
    text = TEXT | {"vocab_size": vocabulary_size(folder)}
    config = ChineseCLIPConfig(text_config=text, vision_config=tiny.VISION, projection_dim=12)
    ChineseCLIPModel(config).save_pretrained(folder)
    sizes: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**sizes).save_pretrained(folder)


def test_any_dual_encoder_is_one(tmp_path: Path) -> None:
    chinese_clip(tmp_path)
    teacher = load_teacher("t", TEACHER, base=tmp_path)
    assert teacher.card.signals == {"image", "text", "text_tokens"}
    tokens = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tmp_path).eval().get_text_features(**tokens)
    pooled = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    torch.testing.assert_close(teacher.text_embeddings(TEXTS), pooled)
    with pytest.raises(TeacherError, match="`pooling` must be left out for chinese_clip"):
        load_teacher("t", TEACHER.model_copy(update={"pooling": "cls"}), base=tmp_path)


def test_any_segmenter_with_a_vision_encoder_is_one(tmp_path: Path) -> None:
    from transformers import SamHQVisionConfig, SamHQVisionModel, SamImageProcessor

    torch.manual_seed(0)
    small = {"image_size": 64, "output_channels": 8, "mlp_dim": 32}
    settings = SamHQVisionConfig(**tiny.VISION | small, global_attn_indexes=[1], window_size=2)
    SamHQVisionModel(settings).save_pretrained(tmp_path)
    processor = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    processor.save_pretrained(tmp_path)
    card = load_teacher("t", TEACHER, base=tmp_path).card
    assert (card.signals, card.dims["patches"]) == ({"image", "patches"}, 8)


def test_the_only_file_of_weights_is_found_whatever_its_name(tmp_path: Path) -> None:
    config = tiny.save_timm(tmp_path)
    before = load_teacher("t", config, base=tmp_path).card
    (tmp_path / "model.safetensors").rename(tmp_path / "9d75c1")
    assert load_teacher("t", config, base=tmp_path).card.fingerprint == before.fingerprint


def test_weights_under_a_name_of_another_format(tmp_path: Path) -> None:
    config = tiny.save_open_clip(tmp_path)
    before = load_teacher("t", config, base=tmp_path)
    file = tmp_path / "open_clip_model.safetensors"
    save_file({name: each.bfloat16() for name, each in load_file(file).items()}, file)
    file.rename(tmp_path / "open_clip_pytorch_model.bin")
    after = load_teacher("t", config, base=tmp_path)
    similar = torch.cosine_similarity(before.text_embeddings(TEXTS), after.text_embeddings(TEXTS))
    assert similar.min() > 0.99
    assert after.text_embeddings(TEXTS).dtype == torch.float32
