"""Weight files: chosen by name, whole, and free of code."""

import hashlib
import json
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.teachers.load import load_teacher
from meddistill.teachers.state_dicts import read_state
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


def as_old_torch(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("write", [save_file, as_zip, as_old_torch])
def test_files_that_were_cut_are_shown_to_be(write: Any, share: float, tmp_path: Path) -> None:
    path = tmp_path / "model"
    write({"weight": torch.randn(1000), "bias": torch.zeros(10)}, path)
    check_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(TeacherError, match="must be a whole file of weights"):
        check_weights(path)


def as_torchscript(content: Any, path: Path) -> None:
    class Weights(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(content["weight"])
            self.register_buffer("input_resolution", torch.tensor(224))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    torch.jit.save(torch.jit.script(Weights()), str(path))


def as_arrays(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **content)


def as_legacy_tar(_: object, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "tensors"):
            tar.addfile(tarfile.TarInfo(name))


def as_bytes(content: bytes) -> Any:
    return lambda _, path: path.write_bytes(content)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605247071\n"


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "9d75c1f0"])
@pytest.mark.parametrize(
    ("write", "met", "helps"),
    [
        (as_bytes(b""), "0 bytes", "Fetch or copy it again"),
        (as_bytes(b"not weights at all"), "text", "right file"),
        (as_bytes(POINTER), "Git LFS pointer", "git lfs pull"),
        (as_bytes(b"/annex/objects/SHA256E-s6--a.bin\n"), "git-annex pointer", "git annex get"),
        (as_bytes(b"\n<!DOCTYPE html>\n<html><body>Sign in"), "HTML page", "signed in"),
        (as_bytes(b"<?xml version='1.0'?><Error>AccessDenied"), "XML page", "signed in"),
        (as_bytes(b'{"error": "Repository not found"}'), "JSON", "right file"),
        (as_bytes(b"\x1f\x8b\x08" + b"\0" * 99), "gzip", "Unpack"),
        (as_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 99), "HDF5", "right file"),
        (as_torchscript, "TorchScript", "torch.jit.load"),
        (as_arrays, "numpy arrays", "safetensors"),
        (as_legacy_tar, "tar format of before 2017", "safetensors"),
    ],
)
def test_what_is_met_in_place_of_weights_is_named(
    write: Any, met: str, helps: str, name: str, tmp_path: Path
) -> None:
    write({"weight": torch.ones(2)}, tmp_path / name)
    with pytest.raises(TeacherError, match=rf"`{name}` must") as caught:
        check_weights(tmp_path / name)
    words = str(caught.value)
    assert met in words
    assert helps in words
    assert "whole" not in words
    assert "damaged" not in words


def test_the_remedy_for_torchscript_gives_plain_weights(tmp_path: Path) -> None:
    archive, plain = tmp_path / "ViT-B-32.pt", tmp_path / "plain.pt"
    as_torchscript({"weight": torch.ones(2)}, archive)
    with pytest.raises(TeacherError) as caught:
        check_weights(archive)
    command = "torch.save(" + str(caught.value).partition(": torch.save(")[2].removesuffix(".")
    exec(command, {"torch": torch, "FILE": str(archive), "OTHER": str(plain)})
    assert read_state(plain).keys() == {"weight"}


def test_a_damaged_checksum_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    as_zip({"weight": torch.randn(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"torch._utils")] = 0xFF
    path.write_bytes(content)
    with pytest.raises(TeacherError, match=r"whole file of weights; got one whose checksum of data.pkl"):
        check_weights(path)


def test_a_version_that_the_library_does_not_know_is_not_called_damage(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F3","shape":[8],"data_offsets":[0,3]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0")
    with pytest.raises(TeacherError, match=r"this version of safetensors can read.*Update") as caught:
        check_weights(tmp_path / "model.safetensors")
    assert "whole" not in str(caught.value)


def blob_of(path: Path) -> Path:
    """Move a file into `blobs` as the hub's cache does, and leave a relative link in its place."""
    blobs = path.parents[2] / "blobs"
    blobs.mkdir(exist_ok=True)
    blob = blobs / hashlib.sha256(path.name.encode()).hexdigest()
    path.rename(blob)
    path.symlink_to(Path("../../blobs") / blob.name)
    return blob


def in_cache(base: Path) -> Path:
    """The folder of a snapshot, with the reference that names it."""
    (base / "refs").mkdir(parents=True)
    (base / "refs/main").write_text("abc\n")
    (base / "snapshots/old").mkdir(parents=True)
    return base / "snapshots/abc"


ASKED = {"open_clip": "local-dir:", "transformers": "", "timm": "local-dir:"}


@pytest.mark.parametrize("save", [tiny.save_open_clip, tiny.save_clip, tiny.save_timm])
def test_folders_of_links_load_as_the_files_do(save: Any, tmp_path: Path) -> None:
    plain = load_teacher("x", save(tmp_path / "plain"), base=tmp_path / "plain").card
    folder = in_cache(tmp_path / "models--a--b")
    config = save(folder)
    for path in [path for path in folder.iterdir() if path.is_file()]:
        blob_of(path)
    assert load_teacher("x", config, base=folder).card.fingerprint == plain.fingerprint
    whole = config.model_copy(update={"model": f"{ASKED[config.kind]}models--a--b"})
    card = load_teacher("x", whole, base=tmp_path).card
    assert (card.fingerprint, card.source, card.revision) == (plain.fingerprint, "models--a--b", "abc")


def test_a_checkpoint_loads_by_any_name_and_in_shards(tmp_path: Path) -> None:
    config = tiny.save_timm_checkpoint(tmp_path)
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["state_dict"]
    rasters = torch.randint(0, 256, (1, 168, 168, 3), dtype=torch.uint8)
    reference = load_teacher("x", config, base=tmp_path)
    expected = reference.image_embeddings(rasters)
    save_file(state, tmp_path / ("d" * 64))
    (tmp_path / "link.safetensors").symlink_to("d" * 64)
    save_file(state, tmp_path / "wrong.pth")
    save_file({name: value.half() if value.is_floating_point() else value for name, value in state.items()},
              tmp_path / "half.safetensors")  # fmt: skip
    names = sorted(state)
    parts = {"w-00001-of-00002.safetensors": names[::2], "w-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, tmp_path / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    (tmp_path / "w.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for file in ("d" * 64, "link.safetensors", "wrong.pth", "half.safetensors", "w.safetensors.index.json"):
        teacher = load_teacher("x", config.model_copy(update={"checkpoint": file}), base=tmp_path)
        tolerance = 1e-2 if file.startswith("half") else 0
        torch.testing.assert_close(
            teacher.image_embeddings(rasters), expected, rtol=tolerance, atol=tolerance
        )


def test_a_link_whose_file_was_left_behind_is_told_so(tmp_path: Path) -> None:
    config = tiny.save_timm_checkpoint(tmp_path)
    (tmp_path / "checkpoint.pth").unlink()
    (tmp_path / "checkpoint.pth").symlink_to("../../blobs/gone")
    with pytest.raises(TeacherError, match=r"`checkpoint`.*a link to a file that is not there.*cp -rL"):
        load_teacher("x", config, base=tmp_path)


def test_pointers_in_a_cloned_folder_are_named(tmp_path: Path) -> None:
    config = tiny.save_clip(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(POINTER)
    with pytest.raises(TeacherError, match=r"tokenizer\.json are pointers of Git.*git lfs pull"):
        load_teacher("x", config, base=tmp_path)


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


@pytest.mark.parametrize("save", [tiny.save_open_clip_with_bert, tiny.save_clip, tiny.save_onnx])
def test_a_folder_whose_name_is_no_utf8(save: Any, tmp_path: Path) -> None:
    """Tokenizers, safetensors and onnxruntime take names in UTF-8 only."""
    config = save(tmp_path / "plain")
    expected = load_teacher("x", config, base=tmp_path / "plain").card
    odd = (tmp_path / "plain").rename(tmp_path / "r\udcf8ntgen")
    card = load_teacher("x", config, base=odd).card
    assert card.fingerprint == expected.fingerprint
    json.loads(card.model_dump_json())


def test_a_text_model_without_its_tokenizer_is_not_sent_to_its_image_tower(tmp_path: Path) -> None:
    for save, helps in ((tiny.save_bert, False), (tiny.save_clip, True)):
        folder = tmp_path / save.__name__
        config = save(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json"):
            (folder / name).unlink(missing_ok=True)
        with pytest.raises(TeacherError, match="must hold its tokenizer") as caught:
            load_teacher("x", config, base=folder)
        assert ("tower: image" in str(caught.value)) == helps
        if helps:
            load_teacher("x", config.model_copy(update={"tower": "image"}), base=folder)


def test_a_plain_pickle_of_a_newer_protocol_is_not_called_code(tmp_path: Path) -> None:
    path = tmp_path / "plain.bin"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(TeacherError, match=r"pickle of a newer protocol .* torch\.save"):
        check_weights(path)
    path.write_bytes(pickle.dumps(Payload(tmp_path / "mark"), protocol=4))
    with pytest.raises(TeacherError, match="would run code"):
        check_weights(path)
    torch.save({"a": torch.zeros(1)}, path)  # what the message advises
    check_weights(path)


@pytest.mark.parametrize(
    "nests", [("model",), ("model_state_dict",), ("state_dict",), ("model", "state_dict")]
)
def test_the_model_inside_a_checkpoint_is_read(tmp_path: Path, nests: tuple[str, ...]) -> None:
    content: dict[str, Any] = {"module.a": torch.ones(2)}
    for name in nests[::-1]:
        content = {name: content, "epoch": 3}
    torch.save(content, tmp_path / "a.pt")
    assert list(read_state(tmp_path / "a.pt")) == ["a"]


def test_what_holds_no_tensors_by_name_is_named(tmp_path: Path) -> None:
    torch.save({"teacher": {"a": torch.ones(2)}, "student": {}}, tmp_path / "a.pt")
    with pytest.raises(TeacherError, match=r"got others under student, teacher\. Save the tensors alone"):
        read_state(tmp_path / "a.pt")


def test_a_shard_that_is_not_there_is_named_beside_its_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(TeacherError, match=r"`two\.safetensors` must lie beside .* Fetch or copy it too"):
        weight_files(tmp_path, preferred=["*.index.json"])
    save_file({"b": torch.zeros(1)}, tmp_path / "two.safetensors")  # what the message advises
    assert len(weight_files(tmp_path, preferred=["*.index.json"])) == 2
