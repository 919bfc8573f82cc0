"""Teachers that are damaged, dangerous or wrong, through the commands: one message each, and nothing runs."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faulty_world import TESTED, TRAINED, Say, World, steps_done
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny_teachers as tiny

Spoil = Callable[[Path], dict[str, Any]]


class Payload:
    """A pickle that makes a file when it is loaded in full."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def _entry(config: Any, folder: Path) -> dict[str, Any]:
    """A saver's configuration of a model in `folder`, as a recipe beside the folder has it."""
    prefix = "local-dir:" if config.model.startswith("local-dir:") else ""
    return {"kind": config.kind, "model": f"{prefix}{folder.name}", "licence": "MIT"}


def _nan(folder: Path) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.proj"][3] = float("nan")
    save_file(weights, path)
    return _entry(config, folder)


def _truncated(folder: Path) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return _entry(config, folder)


def _other_shapes(folder: Path) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    weights["visual.proj"] = weights["visual.proj"][:, :5].contiguous()
    save_file(weights, path)
    return _entry(config, folder)


def _weights_missing(folder: Path) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    (folder / "open_clip_model.safetensors").unlink()
    return _entry(config, folder)


def _config_broken(folder: Path) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    (folder / "open_clip_config.json").write_text('{"model_cfg": ')
    return _entry(config, folder)


def _no_tokenizer(folder: Path) -> dict[str, Any]:
    config = tiny.save_clip(folder)
    for path in (*folder.glob("tokenizer*"), *folder.glob("vocab*"), *folder.glob("special_tokens*")):
        path.unlink()
    return _entry(config, folder)


def _broken_tokenizer(folder: Path) -> dict[str, Any]:
    config = tiny.save_clip(folder)
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:200])
    return _entry(config, folder)


def _garbage_graph(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "image.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    spec = {"height": 32, "width": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    return {"kind": "onnx", "model": f"{folder.name}/image.onnx", "input": spec, "licence": "MIT"}


def _folder_missing(folder: Path) -> dict[str, Any]:
    return {"kind": "open_clip", "model": f"local-dir:{folder.name}", "licence": "MIT"}


def _no_such_factory(folder: Path) -> dict[str, Any]:
    return {"kind": "python", "factory": "faulty_teacher:biuld", "licence": "MIT"}


BROKEN: dict[str, tuple[Spoil, str]] = {
    "nan": (_nan, "image embeddings of teacher 'nan' must be finite"),
    "truncated": (_truncated, "`open_clip_model.safetensors` must be a whole file of weights"),
    "other_shapes": (_other_shapes, "open_clip could not load or run it (RuntimeError: Error(s) in loading"),
    "weights_missing": (_weights_missing, "must hold its weights in one of"),
    "config_broken": (_config_broken, "open_clip_config.json"),
    "no_tokenizer": (_no_tokenizer, "must hold its tokenizer"),
    "broken_tokenizer": (_broken_tokenizer, "transformers could not load or run it"),
    "garbage": (_garbage_graph, "onnx could not load or run it"),
    "folder_missing": (_folder_missing, "`model` must be an existing folder or a hub id"),
    "factory": (_no_such_factory, "`factory` must name a function of 'faulty_teacher'; got 'biuld'"),
}


def test_all_broken_teachers_are_told_at_once(world: World, say: Say) -> None:
    world.recipe["teachers"] = {name: spoil(world.folder / name) for name, (spoil, _) in BROKEN.items()}
    recipe = world.write()
    for verb in ("check", "run"):
        told = say(verb, recipe, "--out", world.out).refused().replace("Error: teacher", "teacher")
        for name, (_, message) in BROKEN.items():
            lines = [line for line in told.splitlines() if line.strip().startswith(f"teacher '{name}': ")]
            assert len(lines) == 1, (name, told)
            assert message in lines[0]
        assert steps_done(world.out) == set()
        assert not (world.out / "features").exists()


def _open_clip(folder: Path, name: str) -> dict[str, Any]:
    config = tiny.save_open_clip(folder)
    (folder / "open_clip_model.safetensors").unlink()
    return _entry(config, folder)


def _transformers(folder: Path, name: str) -> dict[str, Any]:
    config = tiny.save_vit(folder)
    (folder / "model.safetensors").unlink()
    return _entry(config, folder)


def _architecture(folder: Path, name: str) -> dict[str, Any]:
    folder.mkdir()
    place = f"{folder.name}/{name}"
    return {"kind": "open_clip", "model": "RN50", "pretrained": place, "licence": "MIT"}


def _timm(folder: Path, name: str) -> dict[str, Any]:
    folder.mkdir()
    place = f"{folder.name}/{name}"
    return {"kind": "timm", "model": "test_vit", "checkpoint": place, "licence": "MIT"}


@pytest.mark.parametrize(
    ("prepare", "name"),
    [
        (_open_clip, "open_clip_pytorch_model.bin"),
        (_open_clip, "pytorch_model.bin"),
        (_open_clip, "weights.pt"),
        (_architecture, "weights.pt"),
        (_transformers, "pytorch_model.bin"),
        (_timm, "checkpoint.pth"),
    ],
)
@pytest.mark.parametrize("bare", [False, True], ids=["archive", "bare pickle"])
def test_code_in_weights_never_runs(
    prepare: Callable[[Path, str], dict[str, Any]], name: str, bare: bool, world: World, say: Say
) -> None:
    mark = world.folder / "the code has run"
    world.recipe["teachers"] = {"evil": prepare(world.folder / "evil", name)}
    content = {"state_dict": {"weight": torch.zeros(1)}, "evil": Payload(mark)}
    path = world.folder / "evil" / name
    if bare:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    recipe = world.write()
    for verb in ("check", "run"):
        say(verb, recipe, "--out", world.out).refused(f"teacher 'evil': `{name}` must hold plain weights")
        assert not mark.exists()
    _ = pickle.loads(path.read_bytes()) if bare else torch.load(path, weights_only=False)
    assert mark.exists()  # the payload would have worked


def test_code_in_a_students_initial_weights_never_runs(finished: World, world: World, say: Say) -> None:
    mark = world.folder / "the code has run"
    folder = world.folder / "initial"
    shutil.copytree(finished.out / "student", folder)
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"evil": Payload(mark)}, folder / "open_clip_pytorch_model.bin")
    world.recipe["evaluate"]["baselines"] = {"old": "initial"}
    world.recipe["student"]["init"] = "local-dir:initial"
    said = say("run", world.write(), "--out", world.out)
    assert not mark.exists()
    said.refused()


# --- outputs ----------------------------------------------------------------------------------------------


def _bright(world: World, row: int) -> None:
    """Make the picture of a row the one that a faulty teacher fails on."""
    Image.new("RGB", (24, 24), (255, 250, 250)).save(world.folder / world.rows[row - 1]["image"])


OUTPUTS = {
    "nan": "image embeddings of teacher 'two' must be finite",
    "width": "image embeddings of teacher 'two' must have shape",
    "rows": "image embeddings of teacher 'two' must have shape",
    "raises": "python could not load or run it (ArithmeticError: this picture is too bright)",
}


@pytest.mark.parametrize(
    ("fault", "source"), [*((fault, "stored") for fault in OUTPUTS), ("nan", "online"), ("raises", "online")]
)
def test_one_picture_that_a_teacher_fails_on(fault: str, source: str, world: World, say: Say) -> None:
    _bright(world, 10)
    world.recipe["teachers"]["two"]["options"]["fault"] = fault
    world.recipe["features"]["source"] = source
    told = say("train", world.write(), "--out", world.out).refused(OUTPUTS[fault])
    assert steps_done(world.out) == set()
    assert not (world.out / "student").exists()
    if source == "stored":
        assert "In the table: row 10." in told


@pytest.mark.parametrize("fault", ["nan", "raises"])
def test_one_picture_of_the_suite_that_a_teacher_fails_on(
    fault: str, finished: World, tmp_path: Path, say: Say
) -> None:
    row = TRAINED + TESTED - 2
    folder = tmp_path / "world"
    shutil.copytree(finished.folder, folder)
    world = World(folder, finished.rows)
    _bright(world, row)
    world.recipe["teachers"]["two"]["options"]["fault"] = fault
    world.recipe["stages"] = [
        {"name": "alone", "method": "contrastive", "epochs": 1, "batch_size": 8, "learning_rate": 1e-3}
    ]
    told = say("evaluate", world.write(), "--out", world.out).refused(OUTPUTS[fault])
    assert f"In the table: row {row}." in told
    before = json.loads((finished.out / "steps.json").read_text())["evaluate"]
    assert json.loads((world.out / "steps.json").read_text())["evaluate"] == before


@pytest.mark.parametrize(("fault", "got"), [("integers", "torch.int64"), ("complex", "torch.complex64")])
def test_numbers_of_the_wrong_kind(fault: str, got: str, world: World, say: Say) -> None:
    world.recipe["teachers"]["two"]["options"]["fault"] = fault
    message = f"teacher 'two' must be floating-point numbers; got {got}"
    recipe = world.write()
    for verb in ("check", "extract"):
        say(verb, recipe, "--out", world.out).refused(message)
        assert steps_done(world.out) == set()


def test_numbers_beyond_float16(world: World, say: Say) -> None:
    source = (world.folder / "faulty_teacher.py").read_text()
    (world.folder / "faulty_teacher.py").write_text(
        source.replace('if self.fault == "nan":', "output = output * 1e6\n        if False:")
    )
    recipe = world.write()
    say("extract", recipe, "--out", world.out).refused(
        "must fit float16", "Set `features: {precision: float32}`"
    )
    assert steps_done(world.out) == set()
    other = world.folder / "other"
    say("extract", recipe, "--out", other, "--set", "features.precision=float32").went_well()
