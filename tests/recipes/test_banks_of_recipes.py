"""Class vectors in whole runs: banks in the feature store, three kinds of negatives, and every mistake."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recipe_data
from meddistill.data.keys import text_key
from meddistill.errors import ConfigError
from meddistill.features.reader import FeatureStore
from meddistill.progress import SilentProgress
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import run_recipe
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training import train_stages
from meddistill.teachers.frozen import FrozenTeacher
from recipe_data import TEACHERS, Diary, do_run, write_yaml
from tiny_teachers import save_timm

FINDINGS = ("pneumothorax", "a fracture of the rib", "Nothing, all clear", "nothing,  all clear")
BANK = {"negatives": "bank", "bank": "findings"}


def _stages(**objectives: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Stages by name, each with class vectors as told."""
    base = {**recipe_data.recipe()["stages"][1], "epochs": 1, "selection": {"kind": "available"}}
    return [
        {**base, "name": name, "objectives": {"class_vector_kl": each}} for name, each in objectives.items()
    ]


def _recipe(world: Path, stages: list[dict[str, Any]], **changed: Any) -> Path:
    (world.parent / "findings.txt").write_text("\n".join(FINDINGS) + "\n")
    content = recipe_data.recipe()
    content["features"]["banks"] = {"findings": "findings.txt"}
    return write_yaml(world, {**content, "stages": stages, **changed})


def _lines(path: Path, out: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as checked:
        check_recipe(load_recipe(path), subject="recipe", out=out)
    return checked.value.mistakes


def _losses(out: Path, stage: str) -> list[float]:
    lines = (out / "stages" / stage / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/class_vector_kl"] for line in lines]


def _refuse(*_: Any, **__: Any) -> None:
    pytest.fail("a teacher was asked")


def test_three_kinds_of_negatives_from_the_store_alone(
    own_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = {"temperature": {"radiology": 2.0, "microscopy": 1.0, "general": 3.0}}
    stages = _stages(
        batch={},
        queue={"negatives": "queue", "queue_size": 20},
        own={**BANK, "bank": "captions"},
        bank={**BANK, **warm},
    )
    stages[3]["projection"] = {"kind": "pca"}
    path, out = _recipe(own_world, stages), tmp_path / "out"
    diary = Diary()
    session = run_recipe(load_recipe(path), out, until="features", progress=diary)
    told = "bank findings: 3 different texts; left out, since a model sees no difference from earlier ones: 1"
    assert told in diary.said
    store = FeatureStore.open(out / "features")
    codes, roles = store.tables.names("role")
    assert sum(roles[code] == "bank" for code in codes) == 3
    for name in ("image_embeddings", "text_embeddings"):
        monkeypatch.setattr(FrozenTeacher, name, _refuse)
    with session.processes_folder(shared=False):
        train_stages(session)
    for stage in ("batch", "queue", "own", "bank"):
        assert all(loss > 0 for loss in _losses(out, stage))


def test_a_changed_bank_is_read_and_trained_on_anew(own_world: Path, tmp_path: Path) -> None:
    path, out = _recipe(own_world, _stages(batch={}, bank=BANK)), tmp_path / "out"
    do_run(path, out, until="train")
    said = do_run(path, out, until="train").said
    assert {"features: done already", "stage batch: done already", "stage bank: done already"} <= set(said)
    (own_world.parent / "findings.txt").write_text("\n".join([*FINDINGS[:3], "a nodule"]) + "\n")
    said = do_run(path, out, until="train").said
    assert any(line.startswith("features: done anew, since these changed: banks.findings") for line in said)
    assert "features: 0 images and 1 texts are new and are added to the store" in said
    assert "stage batch: done already" in said
    assert any(
        line.startswith("stage bank: trained anew, since these changed: banks.findings") for line in said
    )


def test_the_vectors_are_the_teachers_own(own_world: Path, tmp_path: Path) -> None:
    path, out = _recipe(own_world, _stages(bank=BANK)), tmp_path / "out"
    session = run_recipe(load_recipe(path), out, until="features", progress=SilentProgress())
    store = FeatureStore.open(out / "features")
    rows = store.text_rows([text_key(text) for text in FINDINGS[:3]])
    for name in TEACHERS:
        asked = session.teachers[name].text_embeddings(list(FINDINGS[:3])).numpy()
        assert np.allclose(store.read(name, "text", rows), asked, atol=2e-3)


def test_every_mistake_is_told_at_once(own_world: Path, tmp_path: Path) -> None:
    save_timm(own_world.parent / "teachers" / "eye")
    content = recipe_data.recipe()
    eye = {"kind": "timm", "model": "local-dir:teachers/eye", "licence": "MIT"}
    path = _recipe(
        own_world,
        _stages(
            bank={**BANK, "bank": "findngs"}, gaps={**BANK, "bank": "gaps"}, empty={**BANK, "bank": "empty"}
        ),
        teachers={**content["teachers"], "eye": eye},
        features={"banks": {"findings": "findings.txt", "gaps": "gaps.txt", "empty": "empty.txt"}},
        student={"image_tower": "test_resnett", "image_size": 32},
    )
    (own_world.parent / "empty.txt").write_text("")
    (own_world.parent / "gaps.txt").write_text("one\n\ntwo\n\n")
    lines = "\n".join(_lines(path, tmp_path / "out"))
    rule = "stage bank: `bank` must name one of `features.banks`, or captions"
    for told in (
        f"{rule}; got findngs. Did you mean `findings`?",
        "gaps.txt: `texts` must have a text in every line; empty: lines 2, 4.",
        "empty.txt: `texts` must hold texts; got none.",
        "teacher `eye` must have image and text embeddings for the objective class_vector_kl; got image.",
        "test_resnett",
    ):
        assert told in lines
    with pytest.raises(ConfigError, match="teachers and banks: "):
        do_run(
            path,
            tmp_path / "out",
            'student={"image_tower": "test_resnet", "image_size": 32}',
            until="features",
        )
    assert not (tmp_path / "out" / "features").exists()


def test_what_only_a_store_has_is_not_asked_online(own_world: Path, tmp_path: Path) -> None:
    path = _recipe(
        own_world, _stages(bank=BANK), features={"source": "online", "banks": {"findings": "findings.txt"}}
    )
    (line,) = _lines(path, tmp_path / "out")
    assert "`objectives.class_vector_kl` must compare with no bank for teachers that run online" in line
    assert line.endswith("Use `source: stored`, or set `negatives` to batch or queue.")
    with pytest.raises(ConfigError, match="must not name a bank captions"):
        load_recipe(path, overrides=["features.banks.captions=findings.txt"])
    with pytest.raises(
        ConfigError, match=r"must name every teacher and nothing else; got no teacher x, nothing"
    ):
        load_recipe(path, overrides=["stages.0.objectives.class_vector_kl.temperature={x: 1}"])


def test_a_given_store_must_have_the_bank_of_every_teacher(own_world: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    do_run(_recipe(own_world, _stages(bank=BANK)), source, until="features")
    content = recipe_data.recipe()
    stored = {
        name: {"kind": "stored", "store": str(source / "features"), "licence": "MIT"} for name in TEACHERS
    }
    path = _recipe(own_world, _stages(bank=BANK), teachers=stored, evaluate=None)
    do_run(path, tmp_path / "out", until="train")
    assert all(loss > 0 for loss in _losses(tmp_path / "out", "bank"))
    # One more teacher's worth of texts is missing: the table has them, two teachers do not.
    (own_world.parent / "findings.txt").write_text("pneumothorax\na nodule\nan effusion\n")
    one = {"general": content["teachers"]["general"]}
    wider = {**content, "teachers": one, "stages": _stages(bank=BANK)}
    wider["features"] = {**content["features"], "banks": {"findings": "findings.txt"}}
    do_run(write_yaml(own_world, wider), source, until="features")
    short = write_yaml(own_world, {**wider, "teachers": stored, "evaluate": None})
    lines = _lines(short, tmp_path / "out")
    for name in ("radiology", "microscopy"):
        told = f"teacher `{name}` must have its features of every text of the bank findings in"
        assert any(line.startswith(told) and "; 2 of 3 are not there." in line for line in lines)
    assert not any("`general`" in line for line in lines)


def test_captions_shared_by_all_images_are_no_bank(own_world: Path, tmp_path: Path) -> None:
    table = own_world.parent / "data" / "pairs.csv"
    with table.open(newline="") as file:
        rows = [{**row, "text": "the same"} for row in csv.DictReader(file)]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    content = recipe_data.recipe()
    stages = _stages(own={**BANK, "bank": "captions"}, batch={})
    lines = _lines(write_yaml(own_world, {**content, "stages": stages}), tmp_path / "out")
    told = "stage own: the bank captions must have two different captions at least; the training table has 1."
    assert any(line.startswith(told) or told in line for line in lines)
    # Of a batch they are equal columns: nothing is left to learn, and nothing breaks.
    do_run(write_yaml(own_world, {**content, "stages": stages[1:]}), tmp_path / "out", until="train")
    assert all(abs(loss) < 1e-5 for loss in _losses(tmp_path / "out", "batch"))


@pytest.mark.parametrize("negatives", [BANK, {"negatives": "batch"}])
def test_class_vectors_train_no_text_tower(
    own_world: Path, tmp_path: Path, negatives: dict[str, Any]
) -> None:
    path = _recipe(own_world, _stages(only=negatives))
    if negatives != BANK:
        path = write_yaml(own_world, {**recipe_data.recipe(), "stages": _stages(only=negatives)})
    session = Session(load_recipe(path), RunFolder(tmp_path / "run"), progress=SilentProgress())
    assert not session.text_is_trained
