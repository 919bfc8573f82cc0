"""Weight files: chosen by name, whole, and free of code."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.teachers.load import load_teacher
from meddistill.teachers.weights import check_weights, weight_files


class Payload:
    """A pickle that creates a file when it is loaded in full."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "the code has run"


def as_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def as_bare_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [as_zip, as_bare_pickle])
def test_a_pickle_with_code_is_refused_and_not_run(write: Any, tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    write({"weight": torch.zeros(2), "evil": Payload(mark)}, path)
    with pytest.raises(
        TeacherError, match=r"`pytorch_model.bin` must hold plain weights; .*not loaded.*safetensors"
    ):
        check_weights(path)
    assert not mark.exists()


def test_the_payload_does_run_in_a_full_load(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "model.bin"
    as_zip({"evil": Payload(mark)}, path)
    torch.load(path, weights_only=False)
    assert mark.exists()


def open_clip_pickle(folder: Path) -> tuple[Any, Path]:
    config = tiny.save_open_clip(folder)
    (folder / "open_clip_model.safetensors").unlink()
    return config, folder / "open_clip_pytorch_model.bin"


def transformers_pickle(folder: Path) -> tuple[Any, Path]:
    config = tiny.save_dinov2(folder)
    (folder / "model.safetensors").unlink()
    return config, folder / "pytorch_model.bin"


def timm_folder_pickle(folder: Path) -> tuple[Any, Path]:
    config = tiny.save_timm(folder)
    (folder / "model.safetensors").unlink()
    return config, folder / "pytorch_model.bin"


def timm_pickle(folder: Path) -> tuple[Any, Path]:
    return tiny.save_timm_checkpoint(folder), folder / "checkpoint.pth"


@pytest.mark.parametrize("prepare", [open_clip_pickle, transformers_pickle, timm_folder_pickle, timm_pickle])
def test_no_adapter_runs_a_pickles_code(prepare: Any, tmp_path: Path, mark: Path) -> None:
    config, path = prepare(tmp_path / "model")
    as_zip({"state_dict": {"weight": torch.zeros(1)}, "evil": Payload(mark)}, path)
    with pytest.raises(TeacherError, match=r"teacher 'x': .*would run code"):
        load_teacher("x", config, base=tmp_path / "model")
    assert not mark.exists()


@pytest.mark.parametrize("prepare", [open_clip_pickle, transformers_pickle, timm_folder_pickle])
def test_plain_pickles_load_and_equal_safetensors(prepare: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    config, path = prepare(folder)
    reference = tmp_path / "reference"
    {"open_clip": tiny.save_open_clip, "transformers": tiny.save_dinov2, "timm": tiny.save_timm}[config.kind](
        reference
    )
    name = "open_clip_model.safetensors" if config.kind == "open_clip" else "model.safetensors"
    torch.save(load_file(reference / name), path)
    teacher, other = (load_teacher("x", config, base=base) for base in (folder, reference))
    spec = teacher.card.input
    assert spec is not None
    rasters = torch.randint(0, 256, (2, spec.height, spec.width, 3), dtype=torch.uint8)
    assert torch.equal(teacher.image_embeddings(rasters), other.image_embeddings(rasters))
    assert any(line.startswith("weights_sha256") for line in teacher.card.difference(other.card))


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    safe, pickled = tmp_path / "model.safetensors", tmp_path / "model.bin"
    save_file({"weight": torch.randn(100)}, safe)
    torch.save({"weight": torch.randn(100)}, pickled)
    for path in (safe, pickled):
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(TeacherError, match=r"must be a whole weight file; it cannot be read"):
            check_weights(path)


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_files_that_are_no_weights_are_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TeacherError, match=rf"`{name}` must"):
        check_weights(tmp_path / name)


def test_choice_of_files(tmp_path: Path) -> None:
    for name in ("other.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        save_file({"weight": torch.zeros(1)}, tmp_path / name)
    found = weight_files(tmp_path, preferred=["model.safetensors", "model-*-of-*.safetensors"])
    assert [path.name for path in found] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    with pytest.raises(
        TeacherError, match=r"or in a single weight file; got model-00001.*, other.safetensors"
    ):
        weight_files(tmp_path, preferred=["weights.safetensors"])
    only = tmp_path / "only"
    only.mkdir()
    with pytest.raises(TeacherError, match="single weight file; got none"):
        weight_files(only, preferred=["weights.safetensors"])
    shutil.copy(tmp_path / "other.safetensors", only / "renamed.safetensors")
    assert [path.name for path in weight_files(only, preferred=[])] == ["renamed.safetensors"]
