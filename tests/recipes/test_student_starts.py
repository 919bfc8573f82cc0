"""Runs of students with a vocabulary of their own, and of one that starts from a folder of timm."""

import json
import os
import shutil
from pathlib import Path

import pytest
from open_clip import OPENAI_DATASET_MEAN
from tokenizers import Tokenizer

from meddistill.cli import main
from meddistill.imaging import normalize_text
from meddistill.students.folder import load_student
from meddistill.students.metadata import read_metadata
from recipe_data import RESNET, digests, do_run, recipe, suite, write_yaml
from tiny_teachers import save_timm

TEXTS = ["Chest X-ray &amp; no effusion", "ÀÉ 12 mm", "lesion " * 40]


@pytest.fixture(scope="module")
def world(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe without teachers, beside the data of the small world."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "data").symlink_to(small_world.parent / "data")
    tasks = [{"name": "retrieval", "kind": "retrieval", "table": "pairs"}]
    write_yaml(folder / "suite.yaml", {**suite(), "tasks": tasks})
    student = {**RESNET, "text": {**RESNET["text"], "vocabulary": 400}}
    stage = {**recipe()["stages"][0], "epochs": 1}
    content = {**recipe(), "teachers": {}, "student": student, "stages": [stage]}
    content["bundle"] = {"formats": ["open_clip"]}
    return write_yaml(folder / "recipe.yaml", content)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    do_run(world, out)
    return out


def test_student_and_bundle_have_the_ids_of_the_run(run: Path) -> None:
    student, own = load_student(run / "student"), json.loads((run / "tokenizer.json").read_text())
    assert student.model.text.token_embedding.weight.shape == (400, 16)
    saved = json.loads((run / "student" / "tokenizer.json").read_text())
    assert saved["model"] == own["model"]
    exported = Tokenizer.from_file(str(run / "bundle" / "tokenizer.json"))
    found = exported.encode_batch([normalize_text(text) for text in TEXTS])
    assert [each.ids for each in found] == student.tokenize(TEXTS).tolist()
    facts = json.loads((run / "evaluation" / "results.json").read_text())
    assert any(row["main"] and row["value"] is not None for row in facts["results"])


def test_what_is_done_stays_done(world: Path, run: Path) -> None:
    before = digests(run)
    said = do_run(world, run).said
    assert digests(run)["tokenizer.json"] == before["tokenizer.json"]
    assert digests(run)["student/meddistill.json"] == before["student/meddistill.json"]
    assert not [line for line in said if "anew" in line]


def test_another_vocabulary_trains_the_student_anew_and_is_named(
    world: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    said = do_run(world, tmp_path / "run", "student.text.vocabulary=5000", until="train").said
    (anew,) = [line for line in said if "trained anew" in line]
    assert "tokenizer" in anew
    size = load_student(tmp_path / "run" / "student").model.text.vocab_size
    assert 400 < size < 5000
    assert any(f"vocabulary: {size:,} tokens instead of 5,000" in line for line in said)


def test_a_lost_or_changed_tokenizer_is_trained_again(world: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    place = tmp_path / "run" / "tokenizer.json"
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"400", b"401"))
    os.utime(place)
    assert not [line for line in do_run(world, tmp_path / "run", until="train").said if "anew" in line]
    assert place.read_bytes() == whole


def test_check_says_what_the_vocabulary_takes(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for size in ("4000", "null"):
        assert main(["check", str(world), "--set", f"student.text.vocabulary={size}"]) == 0
    smaller, clip = capsys.readouterr().out.split("The recipe is in order")[1:]
    assert "tokens instead of 4,000" in smaller
    assert "of which 0.8 M belong to its vocabulary of 49,408 tokens" in clip
    assert main(["check", str(world), "--set", "data.train.where.split=trian"]) == 2


def test_check_and_run_start_from_a_timm_folder(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_timm(world.parent / "start", "test_resnet", license="cc-by-nc-4.0")
    settings = ["student.image_tower=null", "student.init=start", "licence_policy=research"]
    capsys.readouterr()
    assert main(["check", str(world), *(f"--set={each}" for each in settings)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "tensors of timm test_resnet; left in its folder: 2 (fc.bias, fc.weight); of the student's" in shown
    )
    assert "The student would inherit: CC-BY-NC-4.0" in shown
    do_run(world, tmp_path / "run", *settings, until="train")
    metadata = read_metadata(tmp_path / "run" / "student")
    assert metadata.provenance.initial_weights.name == metadata.licence.name == "CC-BY-NC-4.0"
    assert metadata.input.mean != OPENAI_DATASET_MEAN
