"""PMC-CLIP and MedCLIP from weight files of their published layouts: the same numbers as their parts give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from meddistill.errors import TeacherError
from meddistill.imaging import InputSpec, rasterize
from meddistill.teachers.config import TeacherConfig
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher
from tiny_state_dicts import medclip_parts, pmc_clip_parts, save_medclip, save_pmc_clip

TEXTS = (
    "chest ct of the left lesion",
    "mri",
    "normal chest, no lesion, no pneumonia, the left and the right",
)


def picture(*, width: int = 96) -> np.ndarray:
    """A smooth colour picture, 64 high."""
    small = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, 64), Image.Resampling.BICUBIC))


def loaded(folder: Path, config: TeacherConfig) -> FrozenTeacher:
    return load_teacher("mine", config, base=folder)


def embedding(teacher: FrozenTeacher, image: np.ndarray) -> Tensor:
    assert teacher.card.input is not None
    return teacher.image_embeddings(torch.from_numpy(rasterize(image, teacher.card.input.geometry))[None])


def bert_tokens(folder: Path, texts: Any, **options: Any) -> dict[str, Tensor]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "text")
    return tokenizer(list(texts), truncation=True, max_length=20, return_tensors="pt", **options)


@torch.no_grad()
def test_pmc_clip_gives_its_parts_numbers(tmp_path: Path) -> None:
    teacher = loaded(tmp_path, save_pmc_clip(tmp_path))
    parts = pmc_clip_parts(tmp_path)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    published = transforms.Compose(
        [
            transforms.Resize(64, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    expected = parts["visual"](published(Image.fromarray(picture()))[None])
    torch.testing.assert_close(embedding(teacher, picture()), expected, rtol=1e-4, atol=1e-5)
    tokens = bert_tokens(tmp_path, TEXTS, padding="max_length")["input_ids"]
    states = parts["text_encoder"](input_ids=tokens).last_hidden_state[:, 0]
    expected = states @ parts["text_projection"]
    torch.testing.assert_close(teacher.text_embeddings(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert teacher.card.logit_scale == pytest.approx(np.exp(2.0))
    assert (teacher.card.dims["image"], teacher.card.dims["text"], teacher.card.context_length) == (
        12,
        12,
        20,
    )


def test_pmc_clip_from_three_files_is_the_same(tmp_path: Path) -> None:
    whole, three = tmp_path / "whole", tmp_path / "three"
    first = loaded(whole, save_pmc_clip(whole))
    second = loaded(three, save_pmc_clip(three, extracted=True))
    assert torch.equal(embedding(first, picture()), embedding(second, picture()))
    assert torch.equal(first.text_embeddings(TEXTS), second.text_embeddings(TEXTS))
    assert second.card.logit_scale is None
    assert second.card.parameters == first.card.parameters
    (three / "text_projection_layer.pth").unlink()
    with pytest.raises(TeacherError, match=r"must hold text_projection_layer\.pth beside"):
        loaded(three, save_pmc_clip(tmp_path / "other"))


def test_pmc_clips_heads_change_the_numbers_and_the_fingerprint(tmp_path: Path) -> None:
    config = save_pmc_clip(tmp_path)
    four, two = loaded(tmp_path, config), loaded(tmp_path, config.model_copy(update={"attention_heads": 2}))
    assert (embedding(four, picture()) - embedding(two, picture())).abs().max() > 1e-5
    assert [line.split(":")[0] for line in four.card.difference(two.card)] == ["options.attention_heads"]
    with pytest.raises(TeacherError, match="`attention_heads` must divide 256; got 3"):
        loaded(tmp_path, config.model_copy(update={"attention_heads": 3}))


def published_medclip_pixels(image: np.ndarray) -> Tensor:
    """Grey, padded to a square, resized: with Pillow, as MedCLIP's package does."""
    grey = Image.new("L", (128, 128), 0)
    grey.paste(Image.fromarray(image).convert("L"), (0, 32))
    values = np.asarray(grey.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    pixels = torch.from_numpy((values - 0.5862785803043838) / 0.27950088968644304)
    return pixels[None, None].repeat(1, 3, 1, 1)


def test_medclip_sees_grey_pictures_as_its_package_does(tmp_path: Path) -> None:
    teacher = loaded(tmp_path, save_medclip(tmp_path))
    parts, seen = medclip_parts(tmp_path), []
    teacher.modules[0].vision.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["pixel_values"].clone()), with_kwargs=True
    )
    image = picture(width=128)
    found = embedding(teacher, image)
    expected = published_medclip_pixels(image)
    # Within two grey levels, as Pillow rounds twice; next to the padding it blurs what is cut here.
    inside = [*range(6), *range(10, 22), *range(26, 32)]
    torch.testing.assert_close(seen[0][:, :, inside], expected[:, :, inside], rtol=0, atol=2 / 255 / 0.2795)
    with torch.no_grad():
        pooled = parts["vision_model.model"](seen[0]).pooler_output
        torch.testing.assert_close(found, parts["vision_model.projection_head"](pooled), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_medclip_averages_three_layers_over_the_text(tmp_path: Path) -> None:
    teacher = loaded(tmp_path, save_medclip(tmp_path))
    parts = medclip_parts(tmp_path)
    found = teacher.text_embeddings(TEXTS)
    for row, text in enumerate(TEXTS):  # alone, without padding
        states = parts["text_model.model"](**bert_tokens(tmp_path, [text]), output_hidden_states=True)
        three = torch.stack([states.hidden_states[1], states.hidden_states[2], states.hidden_states[3]])
        expected = parts["text_model.projection_head"](three.mean((0, 2)))
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_medclips_map_is_the_last_feature_map(tmp_path: Path) -> None:
    teacher = loaded(tmp_path, save_medclip(tmp_path))
    parts = medclip_parts(tmp_path)
    rasters = torch.from_numpy(rasterize(picture(), teacher.card.input.geometry))[None]
    found = teacher.patch_tokens(rasters)
    red, green, blue = teacher.pixels(rasters).unbind(1)
    grey = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None].repeat(1, 3, 1, 1)
    expected = parts["vision_model.model"](grey).last_hidden_state
    assert found.grid == (4, 4)
    torch.testing.assert_close(found.tokens, expected, rtol=1e-4, atol=1e-5)


def test_a_text_projection_with_a_bias_is_read_too(tmp_path: Path) -> None:
    config = save_medclip(tmp_path)
    before = loaded(tmp_path, config).text_embeddings(TEXTS)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    state["text_model.projection_head.bias"] = torch.full((12,), 2.0)
    torch.save(state, tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(loaded(tmp_path, config).text_embeddings(TEXTS), before + 2.0)


def change(path: Path, **updates: Tensor | None) -> None:
    """Put tensors under names (dots as double underscores), or take them away."""
    content = torch.load(path, weights_only=True)
    state = content.get("state_dict", content)
    for name, value in updates.items():
        key = next((key for key in state if key.endswith(name.replace("__", "."))), name)
        state.pop(key)
        if value is not None:
            state[key] = value
    torch.save(content, path)


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"text_model__projection_head__weight": None}, "must hold a projection under `text_model"),
        (
            {"vision_model__model__layernorm__weight": None},
            "the image tower must have every weight of SwinModel",
        ),
        (
            {"text_model__model__pooler__dense__weight": torch.ones(3, 3)},
            "must have the shapes of its config",
        ),
        ({"logit_scale": None}, "the weights must hold `logit_scale`"),
    ],
)
def test_other_weights_are_refused_by_name(tmp_path: Path, updates: dict, message: str) -> None:
    config = save_medclip(tmp_path)
    change(tmp_path / "pytorch_model.bin", **updates)
    with pytest.raises(TeacherError, match=f"teacher 'mine': .*{message}"):
        loaded(tmp_path, config)


def test_weights_of_another_layout_are_refused(tmp_path: Path) -> None:
    config = save_pmc_clip(tmp_path)
    torch.save({"encoder.weight": torch.ones(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(
        TeacherError, match=r"must hold the image tower under `visual\.`; they begin with enc"
    ):
        loaded(tmp_path, config)
    torch.save([torch.ones(2)], tmp_path / "checkpoint.pt")
    with pytest.raises(TeacherError, match=r"`checkpoint\.pt` must hold tensors by name"):
        loaded(tmp_path, config)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save_pmc_clip(tmp_path)
    torch.save(
        {"state_dict": {"module.visual.conv1.weight": torch.ones(1)}, "args": _Runs()},
        tmp_path / "checkpoint.pt",
    )
    with pytest.raises(TeacherError, match="would run code when loaded"):
        loaded(tmp_path, config)
    assert "ran" not in capsys.readouterr().out


def test_the_text_towers_files_may_stand_elsewhere(tmp_path: Path) -> None:
    config = save_medclip(tmp_path / "model")
    (tmp_path / "model" / "text").rename(tmp_path / "bert")
    with pytest.raises(TeacherError, match=r"`text` must be a folder with config\.json and tokenizer"):
        loaded(tmp_path / "model", config)
    moved = config.model_copy(update={"text": "../bert"})
    assert loaded(tmp_path / "model", moved).card.dims["text"] == 12


def test_an_input_of_the_recipes_replaces_the_published_one(tmp_path: Path) -> None:
    spec = InputSpec(height=64, width=64, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config = save_pmc_clip(tmp_path).model_copy(update={"input": spec})
    assert loaded(tmp_path, config).card.input == spec
