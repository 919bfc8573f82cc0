"""One suite that every teacher adapter passes, over models saved by the libraries themselves, offline."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from meddistill.imaging import rasterize
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import StoredTeacher, TeacherConfig
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher
from tiny_teachers import SAVERS

TEXTS = (
    "Chest X-ray: no pneumonia.",
    "a lesion of the left",
    "CT with contrast, normal, the right and the left and the right of the chest, no lesion at all, normal",
)
SEES = tuple(name for name in SAVERS if name != "bert")
READS = (
    *("open_clip", "open_clip_bert", "clip", "siglip", "dual_encoder", "bert", "onnx"),
    *("pmc_clip", "medclip", "python"),
)
TOKENS = ("open_clip", "open_clip_bert", "dinov2", "vit", "sam", "timm", "timm_checkpoint", "onnx", "medclip")
WORDS = ("open_clip", "open_clip_bert", "clip", "siglip", "dual_encoder", "bert")
# The others have no library to be compared with; tests/teachers has their own numbers.
OWN = tuple(name for name in SAVERS if name not in ("onnx", "pmc_clip", "medclip", "python"))

Saved = tuple[Path, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    """Every model, saved once; the tests change nothing in these folders."""
    root = tmp_path_factory.mktemp("teachers")
    return {name: (root / name, save(root / name)) for name, save in SAVERS.items()}


@pytest.fixture(scope="module")
def teachers(saved: dict[str, Saved]) -> dict[str, FrozenTeacher]:
    """Every model, loaded once."""
    return {name: load_teacher(name, config, base=folder) for name, (folder, config) in saved.items()}


def pictures(count: int = 3, *, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Smooth colour pictures, wider than high, all different."""
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (9, 11, 3), dtype=np.uint8) for _ in range(count)]
    sizes = [(width, height)] * count
    return [
        np.asarray(Image.fromarray(each).resize(size, Image.Resampling.BICUBIC))
        for each, size in zip(small, sizes, strict=True)
    ]


def rasters_for(teacher: FrozenTeacher, images: list[np.ndarray]) -> Tensor:
    spec = teacher.card.input
    assert spec is not None
    return torch.from_numpy(np.stack([rasterize(image, spec.geometry) for image in images]))


@pytest.mark.parametrize("name", SAVERS)
def test_card_is_complete(name: str, teachers: dict[str, FrozenTeacher]) -> None:
    card = teachers[name].card
    assert card.id == name
    assert len(card.weights_sha256) == 64
    assert card.parameters > 100
    assert card.licence.commercial is True
    assert card.library.split()[1][0].isdigit()
    assert os.sep not in card.source
    expected = {"image"} if name in SEES else set()
    expected |= {"text"} if name in READS else set()
    expected |= {"patches"} if name in TOKENS else set()
    expected |= {"text_tokens"} if name in WORDS else set()
    assert card.signals == expected
    assert (card.input is not None) == ("image" in card.dims) == (name in SEES)
    assert (card.context_length is not None) == ("text" in card.dims) == (name in READS)
    assert ("patches" in card.dims) == (name in TOKENS)
    assert (card.logit_scale is not None) == (name in READS and name != "bert")
    assert TeacherCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize("name", SEES)
def test_image_embeddings(name: str, teachers: dict[str, FrozenTeacher]) -> None:
    teacher = teachers[name]
    rasters = rasters_for(teacher, pictures())
    together = teacher.image_embeddings(rasters)
    assert together.shape == (3, teacher.card.dims["image"])
    assert together.dtype == torch.float32
    assert torch.equal(together, teacher.image_embeddings(rasters))
    alone = torch.cat([teacher.image_embeddings(row[None]) for row in rasters])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert (together[0] - together[1]).norm() > 1e-4 * together[0].norm()


@pytest.mark.parametrize("name", READS)
def test_text_embeddings(name: str, teachers: dict[str, FrozenTeacher]) -> None:
    teacher = teachers[name]
    together = teacher.text_embeddings(TEXTS)
    assert together.shape == (3, teacher.card.dims["text"])
    assert together.dtype == torch.float32
    assert torch.equal(together, teacher.text_embeddings(TEXTS))
    alone = torch.cat([teacher.text_embeddings([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert (together[0] - together[1]).norm() > 1e-4 * together[0].norm()


@pytest.mark.parametrize("name", TOKENS)
def test_both_outputs_of_an_image_come_from_one_forward_pass(
    name: str, teachers: dict[str, FrozenTeacher], request: pytest.FixtureRequest
) -> None:
    """With the numbers that they have one by one."""
    teacher = teachers[name]
    rasters = rasters_for(teacher, pictures())
    single = teacher.image_embeddings(rasters), teacher.patch_tokens(rasters).tokens
    passes: list[object] = []
    if teacher.modules:
        first = next(part for part in teacher.modules[0].modules() if isinstance(part, torch.nn.Conv2d))
        request.addfinalizer(first.register_forward_hook(lambda *_: passes.append(name)).remove)
    else:  # a graph of ONNX
        graph = teacher._model.patches.graph
        run = graph.session.run
        patch = request.getfixturevalue("monkeypatch")
        patch.setattr(graph.session, "run", lambda *asked: (passes.append(name), run(*asked))[1])
    both = teacher.image_outputs(rasters, ["patches", "image"])
    assert len(passes) == 1
    assert torch.equal(both["image"], single[0])
    assert torch.equal(both["patches"], single[1])
    assert teacher.image_outputs(rasters, ["patches"]).keys() == {"patches"}


@pytest.mark.parametrize("name", TOKENS)
def test_patch_tokens(name: str, teachers: dict[str, FrozenTeacher]) -> None:
    teacher = teachers[name]
    rasters = rasters_for(teacher, pictures())
    patches = teacher.patch_tokens(rasters)
    rows, columns = patches.grid
    assert patches.tokens.shape == (3, rows * columns, teacher.card.dims["patches"])
    assert rows == columns > 1
    alone = teacher.patch_tokens(rasters[1:2]).tokens
    torch.testing.assert_close(patches.tokens[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WORDS)
def test_text_tokens(name: str, teachers: dict[str, FrozenTeacher]) -> None:
    teacher = teachers[name]
    states = teacher.text_tokens(TEXTS)
    assert states.tokens.shape[:2] == states.mask.shape
    assert states.mask[:, 0].all()
    lengths = states.mask.sum(dim=1)
    assert lengths[2] > lengths[1] > 1
    alone = teacher.text_tokens(TEXTS[1:2])
    padded = states.tokens[1][states.mask[1]]
    torch.testing.assert_close(padded, alone.tokens[0][alone.mask[0]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WORDS)
def test_text_tokens_become_the_librarys_embedding(name: str, saved: dict[str, Saved], teachers: Any) -> None:
    """Pooled and projected as the library does it, the states give the embedding."""
    states = teachers[name].text_tokens(TEXTS)
    last = states.mask.sum(dim=1) - 1
    model = teachers[name].modules[0].model
    with torch.no_grad():
        if name == "open_clip":
            found = states.tokens[torch.arange(3), last] @ model.text_projection
        elif name == "open_clip_bert":
            found = model.text.proj(states.tokens[:, 0])
        elif name == "clip":
            found = model.text_projection(states.tokens[torch.arange(3), last])
        elif name == "siglip":  # reads its padding, and pools there
            found = model.text_model.head(states.tokens[:, -1])
        elif name == "dual_encoder":
            found = model.text_projection(model.text_model.pooler(states.tokens))
        else:
            found = states.tokens[:, 0]
    torch.testing.assert_close(found, teachers[name].text_embeddings(TEXTS), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SAVERS)
def test_frozen_for_ever(name: str, saved: dict[str, Saved]) -> None:
    folder, config = saved[name]
    teacher = load_teacher(name, config, base=folder)

    def outputs() -> list[Tensor]:
        found = []
        if name in SEES:
            found.append(teacher.image_embeddings(rasters_for(teacher, pictures())))
        if name in READS:
            found.append(teacher.text_embeddings(TEXTS))
        return found

    before = outputs()
    for module in teacher.modules:
        module.train()
        module.requires_grad_(True)
    after = outputs()
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first, second)
        assert not second.requires_grad
        student = torch.zeros_like(second, requires_grad=True)
        ((student - second) ** 2).sum().backward()
        assert torch.equal(student.grad, -2 * second)
    for module in teacher.modules:
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not isinstance(teacher, torch.nn.Module)


@pytest.mark.parametrize("name", SAVERS)
def test_loading_twice_gives_the_same_teacher(name: str, saved: dict[str, Saved], teachers: Any) -> None:
    folder, config = saved[name]
    again = load_teacher("another_id", config, base=folder)
    assert again.card.fingerprint == teachers[name].card.fingerprint
    assert again.card.difference(teachers[name].card) == []


def _library_pixels(name: str, folder: Path, images: list[np.ndarray]) -> Tensor:
    """The library's own preprocessing of PIL images."""
    pil = [Image.fromarray(image) for image in images]
    if name.startswith("open_clip"):
        import open_clip

        _, _, transform = open_clip.create_model_and_transforms(
            f"local-dir:{folder}", load_weights=False, **_text_override(name, folder)
        )
        return torch.stack([transform(image) for image in pil])
    if name.startswith("timm"):
        import timm
        from timm.data import create_transform, resolve_model_data_config

        source = "test_resnet" if name == "timm_checkpoint" else f"local-dir:{folder}"
        model = timm.create_model(source, pretrained=False)
        transform = create_transform(**resolve_model_data_config(model), is_training=False)
        return torch.stack([transform(image) for image in pil])
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor(images=pil, return_tensors="pt")["pixel_values"]


def _text_override(name: str, folder: Path) -> dict:
    if name != "open_clip_bert":
        return {}
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    changed = {"hf_model_name": str(folder / "text_config"), "hf_model_pretrained": False}
    return {"text_cfg": text | changed, "pretrained_text": False}


@pytest.mark.parametrize("name", [name for name in SEES if name in OWN])
def test_own_preprocessing(name: str, saved: dict[str, Saved], teachers: dict[str, FrozenTeacher]) -> None:
    # The sizes leave even margins: for odd ones transformers' own backends differ by a pixel.
    # SAM pads elsewhere than `pad` does (see teachers/processors.py): equal for square pictures only.
    images = pictures(height=77, width=77) if name == "sam" else pictures()
    expected = _library_pixels(name, saved[name][0], images)
    found = teachers[name].pixels(rasters_for(teachers[name], images))
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def _library_embeddings(name: str, folder: Path, pixels: Tensor | None) -> list[Tensor]:
    """Image and text embeddings by the library's own calls and the library's own tokenizer."""
    if name.startswith("open_clip"):
        import open_clip

        source = f"local-dir:{folder}"
        model = open_clip.create_model(source, **_text_override(name, folder)).eval()
        tokens = open_clip.get_tokenizer(source)(list(TEXTS))
        return [model.encode_image(pixels), model.encode_text(tokens)]
    if name.startswith("timm"):
        import timm

        if name == "timm":
            return [timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()(pixels)]
        model = timm.create_model("test_resnet", checkpoint_path=str(folder / "checkpoint.pth")).eval()
        return [model.forward_head(model.forward_features(pixels), pre_logits=True)]
    return _transformers_embeddings(name, folder, pixels)


def _transformers_embeddings(name: str, folder: Path, pixels: Tensor | None) -> list[Tensor]:
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    if name in ("dinov2", "vit"):
        return [model(pixel_values=pixels).last_hidden_state[:, 0]]
    if name == "sam":
        return [model.get_image_embeddings(pixels).mean((2, 3))]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name == "bert":
        tokens = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=24, return_tensors="pt")
        return [model(**tokens).last_hidden_state[:, 0]]
    if name == "siglip":
        tokens = tokenizer(
            list(TEXTS), padding="max_length", truncation=True, max_length=16, return_tensors="pt"
        )
        texts = model.get_text_features(input_ids=tokens["input_ids"])
    else:
        tokens = tokenizer(list(TEXTS), padding=True, truncation=True, max_length=24, return_tensors="pt")
        texts = model.get_text_features(**tokens)
    return [model.get_image_features(pixel_values=pixels).pooler_output, texts.pooler_output]


@pytest.mark.parametrize("name", OWN)
def test_the_librarys_own_numbers(name: str, saved: dict[str, Saved], teachers: Any) -> None:
    teacher, found, pixels = teachers[name], [], None
    if name in SEES:
        rasters = rasters_for(teacher, pictures())
        pixels = teacher.pixels(rasters)
        found.append(teacher.image_embeddings(rasters))
    if name in READS:
        found.append(teacher.text_embeddings(TEXTS))
    with torch.no_grad():
        expected = _library_embeddings(name, saved[name][0], pixels)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def _flip_one_bit(name: str, folder: Path) -> None:
    """Change one bit of one weight, keeping the file whole."""
    safe = sorted(folder.glob("*.safetensors"))
    if safe:
        content = bytearray(safe[0].read_bytes())
        content[-4] ^= 1
        safe[0].write_bytes(content)
    elif name == "timm_checkpoint":
        state = torch.load(folder / "checkpoint.pth", weights_only=True)
        bits = next(iter(state["state_dict"].values())).view(torch.int32)
        bits.view(-1)[0] ^= 1
        torch.save(state, folder / "checkpoint.pth")
    elif name in ("pmc_clip", "medclip"):
        path = next(path for path in folder.iterdir() if path.suffix in (".pt", ".bin"))
        content = torch.load(path, weights_only=True)
        state = content.get("state_dict", content)
        next(value for key, value in state.items() if "vis" in key and value.is_floating_point()).view(
            torch.int32
        ).view(-1)[0] ^= 1
        torch.save(content, path)
    elif name == "onnx":
        import onnx

        graph = onnx.load(str(folder / "image.onnx"))
        weights = bytearray(graph.graph.initializer[0].raw_data)
        weights[0] ^= 1
        graph.graph.initializer[0].raw_data = bytes(weights)
        onnx.save(graph, str(folder / "image.onnx"))
    else:
        source = folder / "my_teacher.py"
        source.write_text(source.read_text().replace("manual_seed(0)", "manual_seed(1)"))


@pytest.mark.parametrize("name", SAVERS)
def test_one_bit_of_the_weights_changes_the_fingerprint(
    name: str, saved: dict[str, Saved], teachers: dict[str, FrozenTeacher], tmp_path: Path
) -> None:
    folder, config = saved[name]
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    assert load_teacher(name, config, base=copy).card.fingerprint == teachers[name].card.fingerprint
    _flip_one_bit(name, copy)
    after = load_teacher(name, config, base=copy).card
    assert after.fingerprint != teachers[name].card.fingerprint
    assert [line.split(":")[0] for line in teachers[name].card.difference(after)] == ["weights_sha256"]


@pytest.mark.parametrize("name", [name for name in SAVERS if name != "onnx"])
def test_bfloat16_is_near(name: str, saved: dict[str, Saved], teachers: dict[str, FrozenTeacher]) -> None:
    folder, config = saved[name]
    lower = load_teacher(name, config.model_copy(update={"precision": "bfloat16"}), base=folder)
    pairs = []
    if name in SEES:
        rasters = rasters_for(lower, pictures())
        pairs.append((lower.image_embeddings(rasters), teachers[name].image_embeddings(rasters)))
    if name in READS:
        pairs.append((lower.text_embeddings(TEXTS), teachers[name].text_embeddings(TEXTS)))
    for found, exact in pairs:
        assert found.dtype == torch.float32
        assert torch.cosine_similarity(found, exact).min() > 0.99
        assert not torch.equal(found, exact) or name in ("python",)
    assert any("precision" in line for line in lower.card.difference(teachers[name].card))


def test_every_kind_is_walked(saved: dict[str, Saved]) -> None:
    """All but `stored`, which is no model: its outputs are in a feature store."""
    kinds = {type(config) for _, config in saved.values()}
    union, _ = get_args(TeacherConfig)
    assert kinds == set(get_args(union)) - {StoredTeacher}
