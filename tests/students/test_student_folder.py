"""A saved student in stock open_clip and in ours: the same numbers, or a refusal."""

import json
import os
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image

from file_modes import of_others
from meddistill.errors import CheckpointError
from meddistill.imaging import rasterize
from meddistill.licences import KNOWN, join
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig, TextTower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import load_student, save_student
from meddistill.students.metadata import Provenance, TeacherCredit, read_metadata
from meddistill.teachers.config import OpenClipTeacher
from meddistill.teachers.load import load_teacher

CAPTIONS = ["CT of the chest", "It’s a fundus &amp; more", "word " * 99]
CREDIT = TeacherCredit(
    id="radiology", kind="open_clip", source="somewhere", weights_sha256="0" * 64, licence=KNOWN["MIT"]
)


def save(student: DualEncoder, folder: Path) -> Path:
    save_student(student, folder, provenance=Provenance(teachers=(CREDIT,)))
    return folder


def students() -> list[StudentConfig]:
    mobile = StudentConfig(image_tower="mobilenetv4_conv_small", image_size=64, text=TextTower(layers=1))
    return [StudentConfig(preset="tiny"), mobile, StudentConfig(open_clip="ViT-S-32-alt", image_size=64)]


@pytest.mark.parametrize("config", students(), ids=["tiny", "mobilenet", "vit"])
def test_stock_open_clip_gives_the_same_numbers(
    config: StudentConfig, tmp_path: Path, rasters: torch.Tensor
) -> None:
    student = build_student(config, base=Path(), seed=0).eval()
    folder = save(student, tmp_path / "student")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    loaded = load_student(folder)
    ids = tokenizer(CAPTIONS)
    assert torch.equal(ids, student.tokenize(CAPTIONS).long())
    pixels = torch.stack([preprocess(Image.fromarray(raster.numpy())) for raster in rasters])
    with torch.no_grad():
        for ours in (student, loaded):
            assert torch.equal(ours.embed_tokens(ours.tokenize(CAPTIONS)), model.encode_text(ids))
            assert torch.equal(ours.embed_images(rasters), model.encode_image(ours.pixels(rasters)))
            torch.testing.assert_close(
                ours.embed_images(rasters), model.encode_image(pixels), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_every_file_follows_the_umask(tiny: DualEncoder, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = save(tiny, tmp_path / "student")
        assert of_others(folder) == {}
        assert (folder / "open_clip_model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
    finally:
        os.umask(before)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_stock_preprocessing_gives_the_same_raster(resize: str, tmp_path: Path) -> None:
    config = StudentConfig.model_validate({"preset": "tiny", "resize": resize})
    student = build_student(config, base=Path(), seed=0).eval()
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{save(student, tmp_path / 's')}")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (90, 150, 3), dtype=torch.uint8, generator=generator).numpy()
    ours = student.pixels(torch.tensor(rasterize(image, student.input.geometry))[None])[0]
    # One grey level: libraries may round a resampled value differently.
    torch.testing.assert_close(preprocess(Image.fromarray(image)), ours, rtol=0, atol=1.01 / 255 / 0.26)


def test_a_hugging_face_text_tower_travels_in_the_folder(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = StudentConfig(preset="base", image_size=32, text=TextTower(hf=str(bert_folder)))
    student = build_student(config, base=Path(), seed=0).eval()
    folder = save(student, tmp_path / "student")
    assert str(bert_folder) not in (folder / "open_clip_config.json").read_text()
    loaded = load_student(folder)
    captions = ["Chest X-RAY", "chest", "qq " * 300]
    monkeypatch.chdir(folder)
    model = open_clip.create_model("local-dir:.").eval()
    ids = open_clip.get_tokenizer("local-dir:.")(captions)
    assert torch.equal(ids, student.tokenize(captions).long())
    with torch.no_grad():
        stock = model.encode_text(ids)
        assert torch.equal(student.embed_tokens(student.tokenize(captions)), stock)
        assert torch.equal(loaded.embed_tokens(loaded.tokenize(captions)), stock)
    again = build_student(StudentConfig(init="student"), base=tmp_path, seed=4).eval()
    with torch.no_grad():
        assert torch.equal(again.embed_tokens(again.tokenize(captions)), stock)


@pytest.mark.parametrize("text", ["clip", "hf"])
def test_a_student_becomes_a_teacher_offline(text: str, bert_folder: Path, tmp_path: Path) -> None:
    """Its folder alone is enough, wherever the process stands."""
    tower = TextTower(hf=str(bert_folder)) if text == "hf" else TextTower()
    preset = "base" if text == "hf" else "tiny"
    config = StudentConfig.model_validate({"preset": preset, "image_size": 32, "text": tower})
    student = build_student(config, base=Path(), seed=0).eval()
    save(student, tmp_path / "student")
    teacher = load_teacher(
        "earlier", OpenClipTeacher(kind="open_clip", model="local-dir:student"), base=tmp_path
    )
    with torch.no_grad():
        own = student.embed_tokens(student.tokenize(CAPTIONS))
    torch.testing.assert_close(teacher.text_embeddings(CAPTIONS), own, rtol=0, atol=1e-5)


def test_metadata_remembers_origin_and_licence(tiny: DualEncoder, tmp_path: Path) -> None:
    provenance = Provenance(
        name="demo",
        teachers=(CREDIT,),
        initial_weights=KNOWN["CC-BY-NC-4.0"],
        data={"pairs": KNOWN["CC0-1.0"]},
    )
    config = StudentConfig(preset="tiny")
    save_student(tiny, tmp_path / "student", provenance=provenance, config=config)
    metadata = read_metadata(tmp_path / "student")
    assert metadata.provenance == provenance
    assert metadata.config == config
    assert metadata.input == tiny.input
    assert metadata.licence == join([KNOWN["MIT"], KNOWN["CC-BY-NC-4.0"], KNOWN["CC0-1.0"]])
    assert set(metadata.provenance.components) == {"radiology", "initial weights", "pairs"}
    assert set(metadata.files) == {"open_clip_config.json", "open_clip_model.safetensors"}


def test_metadata_holds_no_path_of_the_machine(tiny: DualEncoder, bert_folder: Path, tmp_path: Path) -> None:
    config = StudentConfig(open_clip="/secret/a.json", init="/secret/b", text=TextTower(hf=str(bert_folder)))
    save_student(tiny, tmp_path / "student", provenance=Provenance(), config=config)
    written = (tmp_path / "student" / "meddistill.json").read_text()
    assert "secret" not in written
    assert str(bert_folder.parent) not in written


def test_a_student_is_replaced_and_other_files_are_not(tiny: DualEncoder, tmp_path: Path) -> None:
    folder = save(tiny, tmp_path / "student")
    tiny.model.logit_scale.data.fill_(1.5)
    save(tiny, folder)
    assert load_student(folder).model.logit_scale.item() == 1.5
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("mine")
    with pytest.raises(CheckpointError, match="must be empty or hold a student"):
        save(tiny, tmp_path / "notes")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["text"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "student"]


def test_saving_keeps_mode_and_random_state(tiny: DualEncoder, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    load_student(save(tiny.train(), tmp_path / "student"))
    assert tiny.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_damaged_and_missing_files_are_named(tiny: DualEncoder, tmp_path: Path, name: str) -> None:
    folder = save(tiny, tmp_path / "student")
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}` must be the file that was written"):
        load_student(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"must hold {name}"):
        load_student(folder)


def test_folders_without_or_with_broken_metadata_are_refused(tiny: DualEncoder, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"must hold meddistill\.json"):
        load_student(tmp_path)
    folder = save(tiny, tmp_path / "student")
    content = json.loads((folder / "meddistill.json").read_text())
    (folder / "meddistill.json").write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(CheckpointError, match="must follow its schema; got version"):
        load_student(folder)


def test_a_student_inherits_its_teachers_pretraining_data() -> None:
    other = CREDIT.model_copy(update={"id": "other", "pretraining_data": ("CheXpert", "mimic_cxr")})
    first = CREDIT.model_copy(update={"pretraining_data": ("MIMIC-CXR",)})
    provenance = Provenance(teachers=(first, other), data={"BIOMEDICA": KNOWN["unknown"]})
    assert provenance.pretraining_data == ("BIOMEDICA", "MIMIC-CXR", "CheXpert")
    assert Provenance().pretraining_data == ()
