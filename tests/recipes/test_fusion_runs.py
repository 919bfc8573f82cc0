"""Whole runs with fusion stages: fused teachers that are used, those that are no better, and bad recipes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coloured_world import (
    ACROSS,
    BY_STAGE,
    STUDENT_TRAINING,
    TRAIN,
    VALIDATION,
    WITHIN,
    log_of,
    teacher,
    world,
)
from meddistill.errors import ConfigError, NonFiniteError
from meddistill.features.reader import FeatureStore
from meddistill.licences import KNOWN, join
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.recipes.recall import mean_recall
from recipe_data import LIGHT, do_run, write_yaml


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with both kinds of fusion."""
    folder = tmp_path_factory.mktemp("used")
    do_run(world(folder / "world"), folder / "run", LIGHT)
    return folder


def test_later_stages_learn_from_what_was_derived(used: Path) -> None:
    run = used / "run"
    assert "teacher/within/loss" in log_of(run, "similar")[-1]
    assert "teacher/across/loss" not in log_of(run, "similar")[-1]
    assert {"teacher/within/loss", "teacher/across/loss", "teacher/cold/loss"} <= log_of(run, "features")[
        -1
    ].keys()
    store = FeatureStore.open(run / "features")
    assert store.holds_all_of(["within", "across"])
    assert (store.by_pair("within"), store.by_pair("across")) == (False, True)
    assert not (run / "features" / "teachers" / "student").exists()


def test_the_card_knows_its_sources_and_inherits_their_terms(used: Path) -> None:
    store = FeatureStore.open(used / "run" / "features")
    card = store.card("within")
    assert card.licence == join([KNOWN["MIT"], KNOWN["CC-BY-NC-4.0"]])
    assert card.options["source warm"] == store.card("warm").fingerprint
    assert card.source == "warm + cold"
    other = card.model_copy(update={"options": {**card.options, "source warm": "0"}})
    assert other.fingerprint != card.fingerprint
    kept = json.loads((used / "run" / "stages" / "within" / "fusion.json").read_text())
    assert kept["teacher"]["weights_sha256"] == card.weights_sha256
    assert kept["score"] is None


def test_nothing_of_the_fusion_is_in_the_student_or_the_bundle(used: Path) -> None:
    run = used / "run"
    weights = (run / "stages" / "within" / "student.safetensors").read_bytes()
    needle = weights[-256:]  # the last tensor's numbers
    for folder in ("student", "bundle"):
        files = [each for each in (run / folder).rglob("*") if each.is_file()]
        assert files
        for each in files:
            content = each.read_bytes()
            assert needle not in content, each
            assert b"towers.image" not in content, each
            assert not {b"within", b"across"} & set(content.split(b'"')), each
    assert needle in (run / "stages" / "within" / "student.safetensors").read_bytes()


def test_the_report_and_the_audit_tell_the_mass_beside_the_pairs(used: Path) -> None:
    audit = json.loads((used / "run" / "audit.json").read_text())
    assert [(each["teacher"], each["by_pair"]) for each in audit["off_diagonal"]] == [
        ("within", False),
        ("across", True),
    ]
    assert [each["name"] for each in audit["teachers"]] == ["warm", "cold", "within"]
    report = (used / "run" / "report.html").read_text()
    assert "within is derived: " in report
    assert "across is derived: " in report
    assert report.count("kept unmeasured: its embeddings were held against no validation pairs") == 2


def test_a_second_run_does_nothing_and_a_lost_derived_teacher_is_made_again(
    used: Path, tmp_path: Path
) -> None:
    shutil.copytree(used, tmp_path / "copy")
    recipe, run = tmp_path / "copy" / "world" / "recipe.yaml", tmp_path / "copy" / "run"
    before = FeatureStore.open(run / "features")
    shards = {name: [file.sha256 for file in before.files(name)] for name in ("within", "across")}
    diary = do_run(recipe, run, LIGHT, until="train")
    assert not [label for label in diary.opened if label.startswith(("Training", "deriving"))]
    manifest = run / "features" / "teachers" / "within"
    shutil.rmtree(manifest)
    do_run_repair(run / "features")
    diary = do_run(recipe, run, LIGHT, until="train")
    assert [label for label in diary.opened if label.startswith(("Training", "deriving"))] == [
        "deriving within"
    ]
    after = FeatureStore.open(run / "features")
    assert {name: [file.sha256 for file in after.files(name)] for name in shards} == shards


def do_run_repair(store: Path) -> None:
    from meddistill.features.verify import repair

    repair(store)


def test_fused_embeddings_that_retrieve_better_are_kept(tmp_path: Path) -> None:
    stages = [{**WITHIN, "epochs": 60, "patience": 20}, BY_STAGE[0]]
    teachers = {"warm": teacher(channels=[0], levels=3), "cold": teacher(channels=[1, 2], levels=3)}
    recipe = world(tmp_path / "world", stages=stages, teachers=teachers, validated=True)
    diary = do_run(recipe, tmp_path / "run", until="train")
    told = [line for line in diary.said if line.startswith("stage within: fused")]
    assert len(told) == 1
    assert "retrieve better than a teacher alone" in told[0]
    found = json.loads((tmp_path / "run" / "stages" / "within" / "fusion.json").read_text())["score"]
    assert found["pairs"] == VALIDATION
    assert all(found["recall"] > each["teacher"] for each in found["teachers"].values())
    numbers = [line["validation"] for line in log_of(tmp_path / "run", "within") if "validation" in line]
    assert max(numbers) == found["recall"]
    best = numbers.index(max(numbers)) + 1
    assert len(numbers) == min(best + 20, 60)
    store = FeatureStore.open(tmp_path / "run" / "features")
    assert store.manifest.rows("images") == TRAIN + VALIDATION
    assert store.holds_all_of(["within", "warm"])


def test_fused_embeddings_that_retrieve_no_better_are_left_out(tmp_path: Path) -> None:
    teachers = {"warm": teacher(), "noise": teacher(noise=True)}  # nothing retrieves better than all colours
    stages = [WITHIN, BY_STAGE[0]]
    recipe = world(tmp_path / "world", stages=stages, teachers=teachers, validated=True)
    diary = do_run(recipe, tmp_path / "run", LIGHT)
    assert any(line.startswith("stage within: left out: ") for line in diary.said)
    goes_on = "stage similar: goes on without within, whose fused embeddings were left out"
    assert goes_on in diary.said
    assert "teacher/within/loss" not in log_of(tmp_path / "run", "similar")[-1]
    assert FeatureStore.open(tmp_path / "run" / "features").teachers == ("warm", "noise")
    assert "left out: fused embeddings retrieve no better" in (tmp_path / "run" / "report.html").read_text()
    alone = [WITHIN, {**BY_STAGE[1], "teachers": ["within"]}]
    recipe = world(tmp_path / "other", stages=alone, teachers=teachers, validated=True)
    with pytest.raises(ConfigError, match="`teachers` must have one at least that is there; got within"):
        do_run(recipe, tmp_path / "other" / "run", until="train")


def test_a_teacher_without_text_and_one_that_is_nan(tmp_path: Path) -> None:
    teachers = {"warm": teacher(channels=[0]), "blind": teacher(channels=[1, 2], text=False)}
    stages = [WITHIN, {**ACROSS, "teachers": ["warm", "blind"]}, BY_STAGE[1]]
    recipe = world(tmp_path / "world", stages=stages, teachers=teachers, bundle=None)
    do_run(recipe, tmp_path / "run", until="train")
    store = FeatureStore.open(tmp_path / "run" / "features")
    assert store.card("within").dims["text"] == 16
    shard = next((store.path / "teachers" / "blind").glob("image-*"))
    spoilt = np.memmap(shard, dtype=np.float16, mode="r+", offset=4096)
    spoilt[:5] = np.nan
    spoilt.flush()
    reseal(store.path, "blind", shard)
    shutil.rmtree(tmp_path / "run" / "stages")
    with pytest.raises(NonFiniteError, match="embeddings of 1 sample"):
        do_run(recipe, tmp_path / "run", until="train")


def reseal(store: Path, teacher: str, shard: Path) -> None:
    """Enter a shard that was changed as if it had been written so."""
    from meddistill.features.files import write_manifest
    from meddistill.features.format import TeacherManifest, load_manifest
    from meddistill.files import sha256_of

    folder = store / "teachers" / teacher
    manifest = load_manifest(folder, TeacherManifest).model_dump(mode="json")
    for each in manifest["outputs"]["image"]["shards"]:
        if each["file"] == shard.name:
            each["sha256"] = sha256_of(shard)
    write_manifest(folder, TeacherManifest.model_validate(manifest).model_dump_json(indent=1))


KL = {"name": "kl", "method": "embedding", "objectives": {"similarity_kl": 1.0}, **STUDENT_TRAINING}
DOUBT = {
    "name": "doubt",
    "method": "embedding",
    "objectives": {"feature_mse": 1.0},
    "weighting": {"kind": "confidence"},
    **STUDENT_TRAINING,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"stages": [ACROSS, KL, DOUBT]},
            [
                "stage kl: `teachers` must not have across for the objective similarity_kl",
                "stage doubt: `teachers` must not have across for the weighting confidence",
            ],
        ),
        ({"stages": [ACROSS, {**WITHIN, "teachers": ["warm", "across"]}, BY_STAGE[1]]}, ["another fusion"]),
        (
            {"stages": [{**WITHIN, "name": "warm", "patience": 3}, BY_STAGE[1]]},
            ["stage warm: `name` must be new", "stage warm: `patience` must have rows to look at"],
        ),
        (
            {"stages": [WITHIN, BY_STAGE[1]], "features": {"source": "online"}},
            ["`features.source` must be stored"],
        ),
        (
            {"stages": [{**BY_STAGE[1], "teachers": ["within", "wram"]}, WITHIN]},
            ["got within", "got wram", "Did you mean `warm`?"],
        ),
        (
            {
                "stages": [ACROSS, {**BY_STAGE[1], "views": "consistent"}],
                "features": {"views": 2, "banks": {"none": "absent.txt"}},
            },
            ["stage features: `views` must be fixed with across", "absent.txt"],
        ),
        ({"stages": [WITHIN]}, ["must have one at least that trains the student"]),
        (
            {"teachers": {"warm": teacher()}, "stages": [WITHIN, BY_STAGE[1]]},
            ["stage within: `teachers` must be two at least to be fused; got warm"],
        ),
        (
            {
                "teachers": {"warm": teacher(text=False), "cold": teacher(text=False)},
                "stages": [WITHIN, {**BY_STAGE[1], "objectives": {"feature_mse": 1.0}}],
            },
            ["stage within: `teachers` must have one at least that embeds texts"],
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_all_its_mistakes(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    loaded = load_recipe(world(tmp_path / "world", **changes))
    with pytest.raises(ConfigError) as refused:
        check_recipe(loaded, subject="recipe", out=tmp_path / "run")
    for each in words:
        assert each in str(refused.value)


def test_validation_rows_are_nobody_elses(tmp_path: Path) -> None:
    path = world(tmp_path / "world", stages=[{**WITHIN, "patience": 1}, BY_STAGE[1]], validated=True)
    loaded = load_recipe(path, overrides=["data.validation.where.split=train"])
    with pytest.raises(ConfigError, match=r"`data.train` and `data.validation` must not share images"):
        check_recipe(loaded, subject="recipe", out=tmp_path / "run")


def test_a_suite_is_not_asked_on_validation_rows(tmp_path: Path) -> None:
    evaluated = {"stages": [WITHIN, BY_STAGE[1]], "validated": True, "evaluate": {"suite": "suite.yaml"}}
    path = world(tmp_path / "world", **evaluated)
    suite = {
        "name": "suite",
        "tables": {"pairs": {"table": "pairs.csv", "text": "text", "where": {"split": "val"}}},
        "tasks": [{"name": "retrieval", "kind": "retrieval", "table": "pairs"}],
    }
    write_yaml(path.parent / "suite.yaml", suite)
    with pytest.raises(ConfigError, match=r"`data.validation` and `table pairs` must not share images"):
        check_recipe(load_recipe(path), subject="recipe", out=tmp_path / "run")


def test_recall_is_that_of_the_retrieval_task() -> None:
    """Two captions of one image are right answers to it, and equal captions are one."""
    images = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    texts = np.array([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.5, 0.5]], dtype=np.float32)
    found = mean_recall(images, texts, image_keys=("a", "a", "b", "c"), text_keys=("x", "y", "z", "y"))
    # Images: a has x on rank 1, b has z on rank 2, c has y on rank 1. Texts: x has a on rank 1, y has c,
    # and z has b on rank 3. So R@1 is 2/3 both ways, and R@5 and R@10 are 1.
    assert found == pytest.approx((2 / 3 + 1 + 1) / 3)
