"""Loading: what each adapter reads, and the one message of each thing that can be wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.imaging import InputSpec
from meddistill.teachers.config import OpenClipTeacher, TimmTeacher, TransformersTeacher
from meddistill.teachers.load import load_teacher

SPEC = InputSpec(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def changed(config: Any, **changes: Any) -> Any:
    return type(config).model_validate(config.model_dump() | changes)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_open_clip(folder: Path, **changes: Any) -> None:
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    content["preprocess_cfg"] |= changes
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "x" * 65])
def test_ids_are_safe_folder_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"a teacher's id must be letters"):
        load_teacher(name, tiny.save_python(tmp_path), base=tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            OpenClipTeacher(kind="open_clip", model="local-dir:gone"),
            "existing folder or a hub id; got 'local-dir:gone'",
        ),
        (
            OpenClipTeacher(kind="open_clip", model="ViT-9", pretrained="x"),
            "an architecture of open_clip; got 'ViT-9'",
        ),
        (
            OpenClipTeacher(kind="open_clip", model="ViT-B-32", pretrained="gone.bin"),
            "`pretrained` must be an existing file; got 'gone.bin'",
        ),
        (
            TransformersTeacher(kind="transformers", model="./gone"),
            "existing folder or a hub id; got './gone'",
        ),
        (TimmTeacher(kind="timm", model="resnet5O", checkpoint="x"), "`checkpoint` must be an existing file"),
    ],
)
def test_files_that_are_missing(config: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=rf"teacher 'x': .*{message}"):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        TransformersTeacher(kind="transformers", model="nobody/nothing", revision="abc"),
        OpenClipTeacher(kind="open_clip", model="hf-hub:nobody/nothing", revision="abc"),
        TimmTeacher(kind="timm", model="hf-hub:nobody/nothing", revision="abc"),
    ],
)
def test_a_hub_id_without_a_network_says_how_to_fetch(config: Any, tmp_path: Path) -> None:
    expected = r"`hf download nobody/nothing --revision abc --local-dir FOLDER` .*accepting its terms"
    with pytest.raises(TeacherError, match=expected):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("open_clip", "open_clip_config.json", "must hold open_clip_config.json"),
        ("open_clip", "open_clip_model.safetensors", "single weight file; got none"),
        ("open_clip_bert", "tokenizer.json", "open_clip could not load or run it"),
        ("clip", "config.json", "must hold config.json"),
        ("clip", "tokenizer.json", "."),
        ("dinov2", "preprocessor_config.json", "must hold preprocessor_config.json .*`input` of its own"),
        ("timm", "config.json", "timm could not load or run it"),
        ("python", "my_teacher.py", "module beside the recipe or an installed one; got 'my_teacher'"),
    ],
)
def test_folders_that_are_incomplete(name: str, file: str, message: str, tmp_path: Path) -> None:
    config = tiny.SAVERS[name](tmp_path)
    (tmp_path / file).unlink()
    (tmp_path / "tokenizer_config.json").unlink(missing_ok=True)
    sys.modules.pop("my_teacher", None)
    with pytest.raises(TeacherError, match=message):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize("name", ["open_clip", "dinov2", "timm"])
def test_weights_of_another_model(name: str, tmp_path: Path) -> None:
    config = tiny.SAVERS[name](tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    state = load_file(path)
    key = next(key for key in state if state[key].dim() > 1)
    save_file(state | {key: torch.zeros(5, 5)}, path)
    with pytest.raises(
        TeacherError, match=r"teacher 'x': .*could not load or run it \((Runtime|Assertion)Error"
    ):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize("name", ["open_clip", "dinov2", "timm"])
def test_weights_with_a_hole(name: str, tmp_path: Path) -> None:
    config = tiny.SAVERS[name](tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    state = load_file(path)
    state.pop(next(key for key in state if state[key].dim() > 1))
    save_file(state, path, metadata={"format": "pt"})
    # transformers would fill the hole with random numbers.
    with pytest.raises(TeacherError, match=r"(?i)missing"):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize("name", ["open_clip", "bert", "dinov2", "timm"])
def test_weights_that_are_not_finite(name: str, tmp_path: Path) -> None:
    config = tiny.SAVERS[name](tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    state = {key: torch.full_like(value, torch.nan) for key, value in load_file(path).items()}
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(TeacherError, match=r"embeddings of teacher 'x' must be finite"):
        load_teacher("x", config, base=tmp_path)


@pytest.mark.parametrize(
    ("mode", "resize"), [("shortest", "crop"), ("longest", "pad"), ("squash", "squash"), (None, "crop")]
)
def test_open_clip_resize_modes(mode: str | None, resize: str, tmp_path: Path) -> None:
    settings = {
        "resize_mode": mode,
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }
    config = tiny.save_open_clip(tmp_path, **settings)
    spec = load_teacher("x", config, base=tmp_path).card.input
    assert spec is not None
    assert (spec.resize, spec.interpolation) == (resize, "bilinear")
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_open_clip_fill_colour(tmp_path: Path) -> None:
    config = tiny.save_open_clip(tmp_path, resize_mode="longest", fill_color=128)
    with pytest.raises(
        TeacherError, match=r"`fill_color` .* must be 0; got 128. Give the teacher an `input`"
    ):
        load_teacher("x", config, base=tmp_path)
    assert load_teacher("x", changed(config, input=SPEC), base=tmp_path).card.input == SPEC


def test_open_clip_architecture_with_a_file(tmp_path: Path) -> None:
    import open_clip

    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}
    (tmp_path / "RN-tiny.json").write_text(
        json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text})
    )
    open_clip.add_model_config(tmp_path / "RN-tiny.json")
    torch.manual_seed(0)
    model = open_clip.create_model("RN-tiny", pretrained=None)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    config = OpenClipTeacher(kind="open_clip", model="RN-tiny", pretrained="weights.pt", licence="MIT")
    card = load_teacher("x", config, base=tmp_path).card
    assert card.source == "RN-tiny weights.pt"
    assert card.signals == {"image", "text", "patches", "text_tokens"}
    assert (card.dims["image"], card.dims["patches"], card.context_length) == (16, 256, 77)


@pytest.mark.parametrize(("pooling", "dim"), [(None, 16), ("cls", 16), ("mean", 16), ("pooler", 16)])
def test_poolings_differ(pooling: str | None, dim: int, tmp_path: Path) -> None:
    for save in (tiny.save_vit, tiny.save_bert):
        folder = tmp_path / save.__name__
        config = changed(save(folder), pooling=pooling)
        chosen, default = (load_teacher("x", each, base=folder) for each in (config, save(folder)))
        if chosen.card.input is None:
            outputs = [each.text_embeddings(["a lesion", "ct"]) for each in (chosen, default)]
        else:
            rasters = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
            outputs = [each.image_embeddings(rasters) for each in (chosen, default)]
        assert outputs[0].shape == (2, dim)
        assert torch.equal(*outputs) == (pooling in (None, "cls"))


def test_mean_pooling_leaves_padding_out(tmp_path: Path) -> None:
    teacher = load_teacher("x", tiny.save_bert(tmp_path, pooling="mean"), base=tmp_path)
    together = teacher.text_embeddings(["ct", "chest ct with contrast and a lesion of the left"])
    torch.testing.assert_close(together[:1], teacher.text_embeddings(["ct"]), rtol=1e-4, atol=1e-6)


def test_towers_alone(tmp_path: Path) -> None:
    config = tiny.save_clip(tmp_path)
    both = load_teacher("x", config, base=tmp_path)
    images = load_teacher("x", changed(config, tower="image"), base=tmp_path)
    texts = load_teacher("x", changed(config, tower="text"), base=tmp_path)
    assert images.card.signals == {"image"}
    assert texts.card.signals == {"text", "text_tokens"}
    assert (images.card.context_length, texts.card.input) == (None, None)
    rasters = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(images.image_embeddings(rasters), both.image_embeddings(rasters))
    assert torch.equal(texts.text_embeddings(["ct"]), both.text_embeddings(["ct"]))


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    for config, message in (
        (changed(tiny.save_vit(tmp_path / "vit"), tower="image"), r"`tower` must be left out .*\(vit\)"),
        (changed(tiny.save_clip(tmp_path / "clip"), pooling="cls"), "`pooling` must be left out for clip"),
    ):
        folder = tmp_path / ("vit" if config.tower else "clip")
        with pytest.raises(TeacherError, match=message):
            load_teacher("x", config, base=folder)


def test_context_length_can_be_shortened(tmp_path: Path) -> None:
    config = tiny.save_bert(tmp_path)
    short = load_teacher("x", changed(config, context_length=4), base=tmp_path)
    assert short.card.context_length == 4
    # [CLS] chest ct [SEP]: what follows is cut.
    assert torch.equal(short.text_embeddings(["chest ct no lesion"]), short.text_embeddings(["chest ct"]))
    full = load_teacher("x", config, base=tmp_path)
    assert full.card.context_length == 24
    assert any(line.startswith("tokenizer") for line in full.card.difference(short.card))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "`do_resize` .* must give one fixed size; got False"),
        ({"resample": 1}, "`interpolation` .* must be bilinear or bicubic; got 1"),
        ({"size": {"longest_edge": 32}}, "`size` .* must give one fixed size"),
        ({"do_center_crop": False}, "`do_center_crop` .* must give one fixed size"),
        ({"crop_size": {"height": 64, "width": 64}}, "`crop_size` .* must give one fixed size"),
    ],
)
def test_processors_that_an_input_cannot_say(changes: dict, message: str, tmp_path: Path) -> None:
    config = tiny.save_dinov2(tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", **changes)
    with pytest.raises(TeacherError, match=rf"{message}.*Give the teacher an `input` of its own"):
        load_teacher("x", config, base=tmp_path)
    assert load_teacher("x", changed(config, input=SPEC), base=tmp_path).card.input == SPEC


@pytest.mark.parametrize(
    ("changes", "mean", "std"),
    [
        ({}, 0.53, 0.258),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, 0.5, 0.2),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
    ],
)
def test_scales_of_processors(changes: dict, mean: float, std: float, tmp_path: Path) -> None:
    config = tiny.save_dinov2(tmp_path)
    edit_json(tmp_path / "preprocessor_config.json", **changes)
    spec = load_teacher("x", config, base=tmp_path).card.input
    assert spec is not None
    assert spec.mean == pytest.approx([mean] * 3)
    assert spec.std == pytest.approx([std] * 3)


def test_an_input_that_the_model_refuses(tmp_path: Path) -> None:
    config = changed(tiny.save_vit(tmp_path), input=SPEC.model_copy(update={"height": 48}))
    with pytest.raises(
        TeacherError, match=r"transformers could not load or run it \(ValueError: Input image size"
    ):
        load_teacher("x", config, base=tmp_path)


def test_sources_never_show_whole_paths(tmp_path: Path) -> None:
    tiny.save_timm(tmp_path / "lab" / "resnet")
    for model in ("local-dir:lab/resnet", f"local-dir:{tmp_path}/lab/resnet"):
        card = load_teacher("x", TimmTeacher(kind="timm", model=model), base=tmp_path).card
        assert card.source == "resnet"
        assert str(tmp_path) not in card.model_dump_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"broken": "nan"}, "image embeddings of teacher 'x' must be finite"),
        ({"broken": "rows"}, r"must have shape \(1, .*\); got"),
        ({"width": "six"}, r"python could not load or run it \(TypeError.*Mend the factory"),
        ({"unknown": 1}, r"unexpected keyword argument 'unknown'"),
    ],
)
def test_factories_that_misbehave(options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=message):
        load_teacher("x", tiny.save_python(tmp_path, **options), base=tmp_path)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("my_teacher:gone", "`factory` must name a function of 'my_teacher'; got 'gone'"),
        ("nowhere_at_all:build", "installed one; got 'nowhere_at_all'"),
        ("my_teacher:build_nothing", "one or more of the protocols .*image.*; got object"),
    ],
)
def test_factories_that_are_not_there(factory: str, message: str, tmp_path: Path) -> None:
    config = changed(tiny.save_python(tmp_path), factory=factory)
    with pytest.raises(TeacherError, match=message):
        load_teacher("x", config, base=tmp_path)


def test_two_recipes_with_modules_of_one_name(tmp_path: Path) -> None:
    config = tiny.save_python(tmp_path / "a")
    tiny.save_python(tmp_path / "b")
    source = tmp_path / "b" / "my_teacher.py"
    source.write_text(source.read_text().replace("width=6", "width=9"))
    dims = [load_teacher("x", config, base=tmp_path / name).card.dims["image"] for name in ("a", "b", "a")]
    assert dims == [6, 9, 6]
    assert str(tmp_path / "a") not in sys.path


def test_options_reach_the_fingerprint(tmp_path: Path) -> None:
    first, second = (
        load_teacher("x", tiny.save_python(tmp_path, width=width), base=tmp_path).card for width in (6, 7)
    )
    differing = [line.split(":")[0] for line in first.difference(second)]
    assert differing == ["image_dim", "options.width", "text_dim", "weights_sha256"]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("graphs")
    return folder, tiny.save_onnx(folder)


def test_one_graph_alone(graphs: tuple[Path, Any]) -> None:
    folder, config = graphs
    texts = load_teacher("x", changed(config, model=None, patch_output=None, input=None), base=folder)
    assert texts.card.signals == {"text"}
    images = load_teacher(
        "x", changed(config, text_model=None, image_output="image_embeds", patch_output=None), base=folder
    )
    assert images.card.signals == {"image"}
    assert images.card.tokenizer_sha256 is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gone.onnx"}, "`model` must be an existing file; got 'gone.onnx'"),
        (
            {"patch_output": None},
            "must have the output that is named; got None. It has image_embeds, patches",
        ),
        ({"image_input": "pixel"}, "must have the input that is named; got 'pixel'. It has pixels"),
        ({"precision": "bfloat16"}, "`precision` must be float32 for a graph"),
        ({"tokenizer": "gone.json"}, "`tokenizer` must be an existing file"),
    ],
)
def test_graphs_that_are_named_wrongly(changes: dict, message: str, graphs: tuple[Path, Any]) -> None:
    folder, config = graphs
    with pytest.raises(TeacherError, match=message):
        load_teacher("x", changed(config, **changes), base=folder)


def test_graphs_of_one_batch_size(graphs: tuple[Path, Any], tmp_path: Path) -> None:
    folder, config = graphs
    model = onnx.load(str(folder / "image.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    fixed = changed(config, model=str(tmp_path / "fixed.onnx"), text_model=None)
    with pytest.raises(TeacherError, match=r"must take any batch size; its input 'pixels' is fixed to 1"):
        load_teacher("x", fixed, base=folder)


def test_a_file_that_is_no_graph(graphs: tuple[Path, Any], tmp_path: Path) -> None:
    folder, config = graphs
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(TeacherError, match=r"teacher 'x': onnx could not load or run it"):
        load_teacher("x", changed(config, model=str(tmp_path / "no.onnx")), base=folder)
