"""Folders that no student can start from: the message says why, and what can be done."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from meddistill.errors import CheckpointError
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from tiny_teachers import save_clip, save_dinov2, save_siglip, save_timm, save_vit


def _edited(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


def _one_channel(folder: Path) -> None:
    model = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)


def _special_arguments(folder: Path) -> None:
    model = timm.create_model("test_vit", num_classes=3, qkv_bias=False)
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    _edited(folder, model_args={"qkv_bias": False})


def _pickle_alone(folder: Path) -> None:
    save_timm(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def _pickle_by_another_name(folder: Path) -> None:
    save_timm(folder)
    (folder / "model.safetensors").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def _a_hole(folder: Path) -> None:
    save_vit(folder)
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.bias"]
    save_file(state, folder / "model.safetensors")


def _hole_of_timm(folder: Path) -> None:
    save_timm(folder, "test_resnet")
    state = load_file(folder / "model.safetensors")
    del state["layer1.0.conv1.weight"]
    save_file(state, folder / "model.safetensors")


def _no_processor(folder: Path) -> None:
    save_vit(folder)
    (folder / "preprocessor_config.json").unlink()


def _no_tokenizer(folder: Path) -> None:
    save_clip(folder)
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        path.unlink()


def _other_tokenizer(folder: Path) -> None:
    save_clip(folder)
    content = json.loads((folder / "config.json").read_text())
    _edited(folder, text_config={**content["text_config"], "eos_token_id": 7})


def _swiglu(folder: Path) -> None:
    save_dinov2(folder)
    _edited(folder, use_swiglu_ffn=True)


def _grey_vit(folder: Path) -> None:
    save_vit(folder)
    _edited(folder, num_channels=1)


def _unknown_to_timm(folder: Path) -> None:
    save_timm(folder)
    _edited(folder, architecture="resnet_of_tomorrow")


def _no_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("weights follow")


def _other_activation(folder: Path) -> None:
    save_vit(folder)
    _edited(folder, hidden_act="silu")


@pytest.mark.parametrize(
    ("make", "rule", "remedy"),
    [
        (_one_channel, r"3 channels; got 1", "another one"),
        (_grey_vit, r"3 channels; got 1", "another one"),
        (_special_arguments, r"as its name alone builds it.*qkv_bias", "as a teacher"),
        (_pickle_alone, r"must hold safetensors; got pytorch_model\.bin", r"save_file.*model\.safetensors"),
        (_pickle_by_another_name, r"must hold weights, as safetensors", ""),
        (_a_hole, r"encoder\.layer\.1\.output\.dense\.bias .*missing", "copy"),
        (_hole_of_timm, r"visual\.trunk\.layer1\.0\.conv1\.weight missing", "copy"),
        (_no_processor, r"must hold preprocessor_config\.json", "Copy it"),
        (_no_tokenizer, r"must hold the tokenizer of its text tower", "init_towers: image"),
        (_other_tokenizer, r"end with token 7 .*got 3 at the end", "init_towers: image"),
        (_swiglu, r"got SwiGLU", "smaller"),
        (save_siglip, r"architecture a student can have.*got siglip", "as timm or open_clip saves it"),
        (_unknown_to_timm, r"this version of timm knows; got 'resnet_of_tomorrow'", "Update timm"),
        (_no_model, r"open_clip .*timm .*transformers .*holds notes\.txt", "whole folder"),
        (_other_activation, r"an activation that open_clip has; got 'silu'", "as a teacher"),
    ],
)
def test_what_cannot_be_a_start_says_why_and_what_can(
    make: Callable[[Path], object], rule: str, remedy: str, tmp_path: Path
) -> None:
    make(tmp_path / "it")
    with pytest.raises(CheckpointError, match=rf"(?s)`init`.*{rule}.*{remedy}"):
        build_student(StudentConfig(init="it"), base=tmp_path, seed=0)


def test_the_conversion_that_the_message_prints_works(tmp_path: Path) -> None:
    """With tied and turned tensors, which safetensors refuses as they are."""
    folder = tmp_path / "it"
    save_timm(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    name = next(name for name, each in state.items() if each.ndim == 4)
    state[name] = state[name].transpose(0, 1).contiguous().transpose(0, 1)
    first, second = (f"blocks.{number}.norm1.bias" for number in range(2))
    state[second] = state[first]
    torch.save(state, folder / "pytorch_model.bin")
    torch.save({"state": {}}, folder / "a_scheduler.pt")
    torch.save([*state.values(), *state.values()], folder / "optimizer.pt")
    with pytest.raises(CheckpointError) as refused:
        build_student(StudentConfig(init="it"), base=tmp_path, seed=0)
    line = re.search(r"python -c '(.*)'; where", str(refused.value))[1]
    exec(line, {})
    build_student(StudentConfig(init="it"), base=tmp_path, seed=0)
