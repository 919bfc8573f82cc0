"""Every way to name a student, and what is refused."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from meddistill.errors import CheckpointError, ConfigError
from meddistill.licences import KNOWN
from meddistill.students.architecture import architecture
from meddistill.students.build import build_student, construct
from meddistill.students.config import StudentConfig, TextTower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import save_student
from meddistill.students.initial.licence import initial_licence
from meddistill.students.metadata import Provenance
from plain_batch import batch_of

SMALL_TEXT = TextTower(width=32, heads=1, layers=1, context_length=16)


def build(config: StudentConfig, base: Path = Path()) -> DualEncoder:
    return build_student(config, base=base, seed=0)


def millions(module: torch.nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1)


@pytest.mark.parametrize(
    ("preset", "size", "image", "text", "trained", "dim"),
    [
        ("tiny", 64, 0.4, 6.7, 0.9, 128),
        ("nano", 224, 2.8, 17.5, 5.8, 256),
        ("lite", 224, 3.7, 17.5, 5.8, 256),
        ("edge", 256, 9.1, 20.7, 9.1, 512),
        ("small", 224, 21.9, 20.7, 9.1, 512),
    ],
)
def test_presets_run_and_have_the_size_that_is_documented(
    preset: str, size: int, image: float, text: float, trained: float, dim: int
) -> None:
    student = build(StudentConfig.model_validate({"preset": preset}))
    assert (millions(student.model.visual), millions(student.model.text)) == (image, text)
    table = student.model.text.token_embedding
    rest = sum(each.numel() for each in student.model.text.parameters()) - table.weight.numel()
    assert round((rest + 4000 * table.embedding_dim) / 1e6, 1) == trained
    rasters = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    outputs = student(batch_of(rasters, student.tokenize(["a", "b"])))
    assert outputs.image.shape == outputs.text.shape == (2, dim)
    assert outputs.logit_scale.item() == pytest.approx(1 / 0.07)


def test_base_is_vit_b_16_beside_a_bert_of_256_tokens(bert_folder: Path) -> None:
    resolved = architecture(StudentConfig(preset="base", text=TextTower(hf=str(bert_folder))), base=Path())
    with torch.device("meta"):
        model = construct(resolved.model_config, seed=0)
    assert millions(model.visual) == 86.2
    assert resolved.model_config["text_cfg"]["context_length"] == 256
    student = build(
        StudentConfig(preset="base", image_size=32, text=TextTower(hf=bert_folder.name)), bert_folder.parent
    )
    tokens = student.tokenize(["Chest X-ray"])
    assert tokens.shape == (1, 256)
    assert (tokens != 0).sum() == 6  # [CLS] chest x - ray [SEP]
    assert student.embed_tokens(tokens).shape == (1, 512)


def test_base_without_files_says_what_to_name() -> None:
    with pytest.raises(ConfigError, match=r"`text\.hf` must be a folder .*copy of BiomedBERT"):
        build(StudentConfig(preset="base"))


def test_text_weights_can_start_from_safetensors(bert_folder: Path) -> None:
    from transformers import BertModel

    text = TextTower(hf=str(bert_folder), hf_weights="pretrained", hf_licence="MIT")
    config = StudentConfig(preset="base", image_size=32, text=text)
    expected = BertModel.from_pretrained(bert_folder).embeddings.word_embeddings.weight
    assert torch.equal(build(config).model.text.transformer.embeddings.word_embeddings.weight, expected)
    assert initial_licence(config, base=Path()) == KNOWN["MIT"]


def test_weights_depend_on_the_seed_alone_and_leave_the_random_state() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = (
        build_student(StudentConfig(preset="tiny"), base=Path(), seed=seed) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name])
    assert not torch.equal(one.model.visual.trunk.fc.weight, other.model.visual.trunk.fc.weight)


@pytest.mark.parametrize("tower", ["fastvit_t8", "hgnetv2_b0", "test_vit"])
def test_timm_towers_run(tower: str) -> None:
    student = build(StudentConfig(image_tower=tower, text=SMALL_TEXT))
    spec = student.input
    rasters = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    assert student.embed_images(rasters).shape == (2, 512)


def test_an_open_clip_name_and_a_json_file_give_the_same_student(tmp_path: Path) -> None:
    overrides = {"embed_dim": 64, "image_size": 32, "text": SMALL_TEXT}
    named = build(StudentConfig.model_validate({"open_clip": "ViT-S-32-alt", **overrides}))
    (tmp_path / "mine.json").write_text(json.dumps(open_clip.get_model_config("ViT-S-32-alt")))
    filed = build(StudentConfig.model_validate({"open_clip": "mine.json", **overrides}), tmp_path)
    assert named.model_config == filed.model_config
    assert torch.equal(named.model.visual.proj, filed.model.visual.proj)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"open_clip": "ViT-S-16-alto"}, "configuration that open_clip knows.*Did you mean `ViT-S-16-alt"),
        ({"open_clip": "absent.json"}, "must be a readable JSON file"),
        ({"open_clip": "coca_ViT-B-32"}, "must name a dual encoder"),
        ({"image_tower": "resnet81"}, "must be a model that timm knows.*Did you mean `resnet"),
        ({"image_tower": "vit_tiny_patch16_224", "image_size": 64}, "must run at image size 64 x 64"),
        ({"preset": "tiny", "text": {"width": 30, "heads": 4}}, "must be one that open_clip can build"),
        ({"preset": "base", "text": {"hf": "nowhere/at/all"}}, "`text.hf` must be a folder that exists"),
        ({"preset": "base", "text": {"hf": "."}}, "must be one that open_clip can build"),
    ],
)  # fmt: skip
def test_mistakes_are_named(config: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        build(StudentConfig.model_validate(config), tmp_path)


def test_a_configuration_without_towers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"embed_dim": 4, "vision_cfg": {}}')
    with pytest.raises(ConfigError, match="lacks text_cfg"):
        build(StudentConfig(open_clip="half.json"), tmp_path)


def test_initial_weights_bring_architecture_normalization_and_licence(
    tmp_path: Path, tiny: DualEncoder
) -> None:
    save_student(tiny, tmp_path / "first", provenance=Provenance(initial_weights=KNOWN["CC-BY-NC-4.0"]))
    config_file = tmp_path / "first" / "open_clip_config.json"
    content = json.loads(config_file.read_text())
    content["preprocess_cfg"] |= {"mean": [0.5, 0.5, 0.5], "resize_mode": "longest"}
    config_file.write_text(json.dumps(content))
    config = StudentConfig(init="first")
    student = build_student(config, base=tmp_path, seed=9)
    assert torch.equal(student.model.text.token_embedding.weight, tiny.model.text.token_embedding.weight)
    assert (student.input.mean, student.input.resize) == ((0.5, 0.5, 0.5), "pad")
    assert initial_licence(config, base=tmp_path) == KNOWN["CC-BY-NC-4.0"]
    assert initial_licence(StudentConfig(init="first", init_licence="MIT"), base=tmp_path) == KNOWN["MIT"]
    assert initial_licence(StudentConfig(init="absent"), base=tmp_path) == KNOWN["unknown"]
    assert initial_licence(StudentConfig(preset="tiny"), base=tmp_path) is None


def test_pretrained_text_weights_have_a_licence_of_their_own(tmp_path: Path) -> None:
    text = TextTower(hf="bert", hf_weights="pretrained")
    assert initial_licence(StudentConfig(preset="base", text=text), base=tmp_path) == KNOWN["unknown"]
    # The image tower's licence says nothing of the text tower's weights.
    both = StudentConfig(init="metaclip", init_towers="image", init_licence="CC-BY-NC-4.0", text=text)
    terms = initial_licence(both, base=tmp_path)
    assert (terms.name, terms.commercial, terms.distillation) == (
        "CC-BY-NC-4.0 AND unknown",
        False,
        "unknown",
    )
    known = text.model_copy(update={"hf_licence": "MIT"})
    terms = initial_licence(both.model_copy(update={"text": known}), base=tmp_path)
    assert (terms.name, terms.distillation) == ("CC-BY-NC-4.0 AND MIT", "non_commercial")
    untouched = TextTower(
        hf="bert", hf_licence="CC-BY-NC-4.0"
    )  # random weights: only the tokenizer is theirs
    assert initial_licence(StudentConfig(preset="base", text=untouched), base=tmp_path) is None


def test_the_image_tower_alone_can_start_from_weights(tmp_path: Path, bert_folder: Path) -> None:
    clip = {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "clip.json").write_text(json.dumps(clip))
    first = build_student(StudentConfig(open_clip="clip.json"), base=tmp_path, seed=1)
    save_student(first, tmp_path / "first", provenance=Provenance())
    text = TextTower(hf=str(bert_folder), hf_weights="pretrained", context_length=24)
    config = StudentConfig(init="first", init_towers="image", text=text)
    student = build_student(config, base=tmp_path, seed=9)
    for name, weights in student.model.visual.state_dict().items():
        assert torch.equal(weights, first.model.visual.state_dict()[name]), name
    images = torch.rand(2, 3, 32, 32)
    expected = first.eval().model.encode_image(images)
    torch.testing.assert_close(student.eval().model.encode_image(images), expected)
    assert student.tokenize(["chest x-ray"]).shape == (1, 24)
    assert student.model.text.transformer.config.hidden_size == 32
    assert student.model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    larger = config.model_copy(update={"image_size": 48})
    assert build_student(larger, base=tmp_path, seed=9).model.visual.positional_embedding.shape == (37, 32)


def test_an_image_tower_of_another_architecture_is_refused(tmp_path: Path, tiny: DualEncoder) -> None:
    save_student(tiny, tmp_path / "first", provenance=Provenance())
    config = StudentConfig(preset="small", init="first", init_towers="image")
    with pytest.raises(CheckpointError, match="weights of the student's architecture"):
        build_student(config, base=tmp_path, seed=0)


def test_initial_weights_of_another_architecture_are_refused(tmp_path: Path, tiny: DualEncoder) -> None:
    save_student(tiny, tmp_path / "first", provenance=Provenance())
    with pytest.raises(CheckpointError, match="must hold weights of the student's architecture"):
        build(StudentConfig(preset="tiny", embed_dim=64, init="first"), tmp_path)


def test_pickles_are_refused_unread(tmp_path: Path, tiny: DualEncoder) -> None:
    save_student(tiny, tmp_path / "first", provenance=Provenance())
    (tmp_path / "first" / "open_clip_model.safetensors").unlink()
    (tmp_path / "first" / "open_clip_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match=r"must hold safetensors; got open_clip_pytorch_model\.bin"):
        build(StudentConfig(init="first"), tmp_path)


def test_a_pickle_named_safetensors_is_refused(tmp_path: Path, tiny: DualEncoder) -> None:
    save_student(tiny, tmp_path / "first", provenance=Provenance())
    (tmp_path / "first" / "open_clip_model.safetensors").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(CheckpointError, match="must hold weights, as safetensors"):
        build(StudentConfig(init="first"), tmp_path)
