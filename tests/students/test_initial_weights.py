"""Students that start from folders of timm and transformers compute what these libraries compute."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from meddistill.errors import CheckpointError, ConfigError
from meddistill.licences import KNOWN
from meddistill.students.build import start_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import load_student, save_student
from meddistill.students.initial.licence import initial_licence
from meddistill.students.initial.start import Taken
from meddistill.students.metadata import Provenance
from meddistill.students.vocabulary import train_tokenizer
from tiny_teachers import VISION, save_clip, save_timm, save_vit

SMALL_TEXT = {"width": 32, "heads": 2, "layers": 1, "context_length": 16}
MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def started(folder: Path, **config: Any) -> tuple[DualEncoder, Taken]:
    settings = {"init": str(folder), "text": SMALL_TEXT, **config}
    built = start_student(StudentConfig.model_validate(settings), base=folder.parent, seed=3)
    return built.student.eval(), built.taken


@torch.no_grad()
def features(student: DualEncoder, pixels: Tensor) -> Tensor:
    """What the image tower gives before its projection."""
    visual = student.model.visual
    if hasattr(visual, "trunk"):
        return visual.trunk.forward_head(visual.trunk.forward_features(pixels), pre_logits=True)
    visual.proj, projection = None, visual.proj
    found = visual(pixels)
    visual.proj = projection
    return found


def pixels_of(student: DualEncoder) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, student.input.height, student.input.width, generator=generator)


@torch.no_grad()
def of_timm(folder: Path, pixels: Tensor) -> Tensor:
    return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()(pixels)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_mambaout"])
def test_a_timm_tower_gives_timms_features(name: str, tmp_path: Path) -> None:
    save_timm(tmp_path / "it", name, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2), interpolation="bilinear")
    student, taken = started(tmp_path / "it")
    assert torch.equal(features(student, pixels_of(student)), of_timm(tmp_path / "it", pixels_of(student)))
    spec = student.input
    assert (spec.height, spec.mean, spec.interpolation) == (160, (0.4, 0.5, 0.6), "bilinear")
    names = set(load_file(tmp_path / "it" / "model.safetensors"))
    assert taken.source == f"timm {name}"
    assert {each.rpartition(".")[2] for each in taken.left} == {"weight", "bias"}
    assert len(taken.left) == 2
    assert taken.tensors == len(names) - 2
    image = [each for each in taken.fresh if each.startswith("visual.")]
    assert [student.model.state_dict()[each].shape[0] for each in image] == [512, 512]
    assert student.model.text.transformer.layers == 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_real_folders_give_timms_features(name: str) -> None:
    if not (MODELS / name).is_dir():
        pytest.skip("the pretrained encoders are not beside the checkout")
    config = StudentConfig.model_validate({"init": name, "image_size": 96, "text": SMALL_TEXT})
    student = start_student(config, base=MODELS, seed=0).student.eval()
    assert torch.equal(features(student, pixels_of(student)), of_timm(MODELS / name, pixels_of(student)))
    assert initial_licence(config, base=MODELS) == KNOWN["Apache-2.0"]


def _links(folder: Path) -> None:
    """As in the hub's cache: names that link to blobs without one."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:064x}")
        path.symlink_to(Path("..") / "blobs" / f"{number:064x}")


def _hub_cache(folder: Path) -> None:
    """A model's folder of the hub's cache, of which `main` names the snapshot."""
    snapshot = folder / "snapshots" / "abc"
    files = list(folder.iterdir())
    for place in (snapshot, folder / "snapshots" / "older", folder / "refs"):
        place.mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    for path in files:
        path.rename(snapshot / path.name)


def _shards(folder: Path) -> None:
    """As transformers cuts large models."""
    state = load_file(folder / "model.safetensors")
    parts = {f"model-0000{part + 1}-of-00002.safetensors": sorted(state)[part::2] for part in (0, 1)}
    for name, names in parts.items():
        save_file({each: state[each] for each in names}, folder / name)
    listed = {each: name for name, names in parts.items() for each in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("rearrange", [_links, _hub_cache, _shards])
def test_weights_may_be_links_or_shards(rearrange: Callable[[Path], None], tmp_path: Path) -> None:
    save_timm(tmp_path / "it", "test_resnet")
    expected, _ = started(tmp_path / "it")
    rearrange(tmp_path / "it")
    student, _ = started(tmp_path / "it")
    assert torch.equal(features(student, pixels_of(student)), features(expected, pixels_of(student)))


CLIPS = {
    "quick_gelu": {},
    "gelu": {"hidden_act": "gelu", "layer_norm_eps": 1e-3},
    "tanh": {"hidden_act": "gelu_new"},
    "end by the highest id": {"eos_token_id": 2},
}


@pytest.fixture(params=sorted(CLIPS))
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A CLIPModel with a tokenizer of its own and a temperature of its own."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path / "clip"
    save_clip(folder)
    content = json.loads((folder / "config.json").read_text())
    text = {**content["text_config"], **CLIPS[request.param], "intermediate_size": 48}
    if request.param.startswith("end"):
        # As published CLIPs from before transformers 4.31: the true end token is the highest.
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        end = next(each for each in tokenizer["added_tokens"] if each["content"] == "[SEP]")
        highest = len(tokenizer["model"]["vocab"])
        end["id"] = tokenizer["model"]["vocab"]["[SEP]"] = highest
        tokenizer["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [highest]
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        text["vocab_size"] = highest + 1
    vision = {**VISION, "num_hidden_layers": 3}
    vision |= {key: value for key, value in CLIPS[request.param].items() if key != "eos_token_id"}
    torch.manual_seed(5)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.logit_scale.data.fill_(1.7)
    model.save_pretrained(folder)
    return folder


def test_a_clip_gives_the_outputs_of_transformers(clip: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    student, taken = started(clip, text={})
    reference = CLIPModel.from_pretrained(clip).eval()
    captions = ["a chest ct", "normal", "left lesion with pneumonia and more and more and more of it"]
    words = AutoTokenizer.from_pretrained(clip)(
        captions, padding="max_length", truncation=True, max_length=24, return_tensors="pt"
    )
    pixels = pixels_of(student)
    with torch.no_grad():
        expected = reference(pixel_values=pixels, **words)
        image, text = student.model.encode_image(pixels), student.embed_tokens(student.tokenize(captions))
        normal = torch.nn.functional.normalize
        torch.testing.assert_close(normal(image), expected.image_embeds, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(normal(text), expected.text_embeds, rtol=1e-5, atol=1e-6)
        assert student.logit_scale.item() == pytest.approx(reference.logit_scale.exp().item())
    assert torch.equal(student.tokenize(captions).long(), words.input_ids)
    assert (taken.left, taken.fresh) == ((), ())
    save_student(student, clip.parent / "student", provenance=Provenance())
    with torch.no_grad():
        again = load_student(clip.parent / "student")
        assert torch.equal(again.embed_tokens(again.tokenize(captions)), text)
        trained = student.train().embed_tokens(student.tokenize(captions))
    torch.testing.assert_close(trained, text, rtol=1e-4, atol=1e-5)


def test_a_named_clip_takes_the_weights_and_the_tokenizer_of_its_equal(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    whole, _ = started(tmp_path / "clip", text={})
    save_student(whole, tmp_path / "student", provenance=Provenance())
    named = {"open_clip": "student/open_clip_config.json", "text": {}, "image_size": 48}
    student, _ = started(tmp_path / "clip", **named)
    assert torch.equal(student.tokenize(["a chest ct"]), whole.tokenize(["a chest ct"]))
    assert (student.input.height, whole.input.height) == (48, 32)
    with pytest.raises(CheckpointError, match=r"layers \(1 against 2\)"):
        started(tmp_path / "clip", **{**named, "text": {"layers": 1}})


def test_the_image_tower_of_a_clip_alone(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    student, taken = started(tmp_path / "clip", init_towers="image")
    whole, _ = started(tmp_path / "clip", text={})
    with torch.no_grad():
        pixels = pixels_of(student)
        assert torch.equal(student.model.encode_image(pixels), whole.model.encode_image(pixels))
    assert all(name.startswith(("text_", "logit_scale")) for name in taken.left)
    assert student.logit_scale.item() == pytest.approx(1 / 0.07)
    assert student.tokenize(["a"]).shape == (1, 16)


def _vision_model(folder: Path, kind: str) -> Any:
    """A vision model of transformers, saved with the processor of a ViT."""
    import transformers

    save_vit(folder)
    config, size = {
        "CLIPVisionModel": (transformers.CLIPVisionConfig, VISION),
        "CLIPVisionModelWithProjection": (transformers.CLIPVisionConfig, {**VISION, "projection_dim": 20}),
        "ViTModel": (transformers.ViTConfig, VISION),
        "ViTForImageClassification": (transformers.ViTConfig, VISION),
        "Dinov2Model": (transformers.Dinov2Config, {**VISION, "mlp_ratio": 3, "layerscale_value": 0.3}),
        "ResNetForImageClassification": (
            transformers.ResNetConfig,
            {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
        ),
    }[kind]
    torch.manual_seed(2)
    model = getattr(transformers, kind)(config(**size)).eval()
    for parameter in model.parameters():
        if parameter.ndim < 4:
            torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    model.save_pretrained(folder)
    return model


def _pooled(model: Any, pixels: Tensor) -> Tensor:
    """The class token after the last layer norm, or the mean of the last feature map."""
    inner = getattr(model, "vision_model", getattr(model, "vit", getattr(model, "resnet", model)))
    found = inner(pixel_values=pixels)
    if "CLIP" in type(model).__name__:
        return found.pooler_output
    states = found.last_hidden_state
    return states[:, 0] if states.ndim == 3 else states.mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "left", "dim"),
    [
        ("CLIPVisionModel", 0, 512),
        ("CLIPVisionModelWithProjection", 0, 20),
        ("ViTModel", 2, 512),
        ("ViTForImageClassification", 2, 512),
        ("Dinov2Model", 1, 512),
        ("ResNetForImageClassification", 2, 512),
    ],
)
def test_a_vision_model_gives_the_features_of_transformers(
    kind: str, left: int, dim: int, tmp_path: Path
) -> None:
    model = _vision_model(tmp_path / "it", kind)
    student, taken = started(tmp_path / "it")
    pixels = pixels_of(student)
    assert pixels.shape[-1] == 32
    with torch.no_grad():
        expected = _pooled(model, pixels)
        torch.testing.assert_close(features(student, pixels), expected, rtol=1e-4, atol=1e-5)
        if kind.endswith("Projection"):
            found = student.model.encode_image(pixels)
            torch.testing.assert_close(found, model(pixels).image_embeds, rtol=1e-4, atol=1e-5)
    assert len(taken.left) == left
    assert (student.embed_dim, student.input.mean) == (dim, (0.5, 0.5, 0.5))
    larger, _ = started(tmp_path / "it", image_size=48)
    assert features(larger, pixels_of(larger)).shape == expected.shape


def test_the_licence_of_a_start(tmp_path: Path) -> None:
    save_timm(tmp_path / "told", license="cc-by-nc-4.0")
    save_timm(tmp_path / "strange", license="ask-me")
    save_clip(tmp_path / "clip")
    save_vit(tmp_path / "vit")
    found = {name: {"init": name} for name in ("told", "strange", "clip", "vit")}
    found["stated"] = {"init": "told", "init_licence": "MIT"}
    names = {
        name: initial_licence(StudentConfig.model_validate(given), base=tmp_path).name
        for name, given in found.items()
    }
    assert names.pop("told") == "CC-BY-NC-4.0"
    assert names.pop("stated") == "MIT"
    assert set(names.values()) == {"unknown"}


def test_a_named_architecture_must_be_the_folders(tmp_path: Path) -> None:
    save_timm(tmp_path / "resnet", "test_resnet")
    save_vit(tmp_path / "vit")
    student, taken = started(tmp_path / "resnet", preset="tiny")
    assert (student.input.height, student.embed_dim, taken.tensors > 20) == (64, 128, True)
    assert started(tmp_path / "resnet", image_tower="test_resnet")[0].input.height == 160
    for named in ({"image_tower": "test_vit"}, {"preset": "small"}):
        with pytest.raises(
            CheckpointError, match=r"architecture, .*(test_vit|width 384).*; got timm's test_res"
        ):
            started(tmp_path / "resnet", **named)
    with pytest.raises(CheckpointError, match=r"timm's test_resnet; got a transformer of layers 2, width 16"):
        started(tmp_path / "vit", preset="tiny")


def test_a_start_with_an_image_tower_takes_a_vocabulary(tmp_path: Path) -> None:
    save_timm(tmp_path / "it", "test_resnet")
    tokenizer = train_tokenizer(["a nodule", "no nodule"], vocabulary=300)
    config = StudentConfig.model_validate({"init": "it", "text": {**SMALL_TEXT, "vocabulary": 300}})
    built = start_student(config, base=tmp_path, seed=0, tokenizer=tokenizer)
    assert built.student.model.text.vocab_size == tokenizer.get_vocab_size()
    save_clip(tmp_path / "clip")
    with pytest.raises(ConfigError, match=r"`text\.vocabulary` must be absent where `init` brings"):
        start_student(config.model_copy(update={"init": "clip"}), base=tmp_path, seed=0, tokenizer=tokenizer)


def test_an_interpolation_that_is_not_ours_must_be_replaced(tmp_path: Path) -> None:
    save_timm(tmp_path / "it", "test_resnet", interpolation="lanczos")
    with pytest.raises(ConfigError, match=r"`interpolation` must be given"):
        started(tmp_path / "it")
    assert started(tmp_path / "it", interpolation="bicubic")[0].input.interpolation == "bicubic"


def test_a_folder_of_two_libraries_is_open_clips_where_its_weights_are(
    tmp_path: Path, tiny: DualEncoder
) -> None:
    save_vit(tmp_path / "it")
    save_student(tiny, tmp_path / "student", provenance=Provenance())
    shutil.copy(tmp_path / "student" / "open_clip_config.json", tmp_path / "it")
    assert started(tmp_path / "it")[1].source.startswith("ViT of transformers")
    shutil.copy(tmp_path / "student" / "open_clip_model.safetensors", tmp_path / "it")
    assert started(tmp_path / "it", text={})[1].source == "open_clip it"
