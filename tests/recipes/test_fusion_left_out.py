"""Fused teachers that are left out, or lack rows: what learns from them goes on, or says why it cannot."""

from pathlib import Path

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
from meddistill.errors import ConfigError
from meddistill.features.reader import FeatureStore
from meddistill.recipes import check
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.students.metadata import read_metadata
from recipe_data import LIGHT, do_run

# Nothing retrieves better than `warm`, which sees all colours.
TEACHERS = {"warm": teacher(), "noise": teacher(noise=True), "blind": teacher(text=False)}
FIRST = {**WITHIN, "teachers": ["warm", "noise"]}
WEIGHED = {
    "name": "weighed",
    "method": "embedding",
    "teachers": ["blind", "within", "again"],
    "objectives": {"feature_mse": {"weight": 1.0}},
    "weighting": {"kind": "fixed", "weights": {"blind": 1.0, "within": 2.0, "again": 0.0}},
    **STUDENT_TRAINING,
}


def test_what_was_to_learn_from_it_goes_on_without(tmp_path: Path) -> None:
    again = {**WITHIN, "name": "again", "teachers": ["warm", "within"]}
    stages = [FIRST, again, WEIGHED]
    recipe = world(tmp_path / "world", stages=stages, teachers=TEACHERS, validated=True)
    run = tmp_path / "run"
    diary = do_run(recipe, run, LIGHT)
    assert any(line.startswith("stage within: left out: ") for line in diary.said)
    assert any(line.startswith("stage again: left out: without within, whose fused") for line in diary.said)
    assert "stage weighed: goes on without within, again, whose fused embeddings were left out" in diary.said
    assert {"teacher/blind/loss"} <= log_of(run, "weighed")[-1].keys()
    assert FeatureStore.open(run / "features").teachers == tuple(TEACHERS)
    assert not read_metadata(run / "student").provenance.text_trained  # `blind` reads nothing
    with pytest.raises(ConfigError, match=r"`weights` must be above 0 for a teacher that is there; .*within"):
        do_run(recipe, run, "stages.2.weighting.weights.blind=0", until="train")


def test_rows_of_zeros_are_no_classes(tmp_path: Path) -> None:
    """And of a chain of fused teachers a check knows which rows each has."""
    left = {**teacher(channels=[0, 1]), "modalities": ["a"]}
    right = {**teacher(channels=[1, 2]), "modalities": ["a"]}
    bank = {"class_vector_kl": {"weight": 1.0, "negatives": "bank", "bank": "captions"}}
    stages = [
        WITHIN | {"teachers": ["left", "right"]},
        {**WITHIN, "name": "more", "teachers": ["within", "all"]},
        {**WITHIN, "name": "chain", "teachers": ["within", "more"]},
        {**BY_STAGE[0], "name": "classes", "teachers": ["within", "all"], "objectives": bank},
    ]
    recipe = world(
        tmp_path / "world", stages=stages, teachers={"left": left, "right": right, "all": teacher()}
    )
    modality = "data.train.modality=modality"
    check_recipe(load_recipe(recipe, overrides=[modality]), subject="recipe", out=tmp_path / "run")
    said = do_run(recipe, tmp_path / "run", modality, until="train").said
    told = "stage classes: teacher within has 32 of 64 texts of the bank captions"
    assert [line for line in said if line.startswith(told)]
    assert not [line for line in said if "teacher all has" in line]


def test_validation_pairs_that_no_source_has_are_too_few(tmp_path: Path) -> None:
    teachers = {name: {**teacher(), "modalities": ["a"]} for name in ("warm", "cold")}
    recipe = world(tmp_path / "world", stages=[WITHIN, BY_STAGE[0]], teachers=teachers, validated=True)
    asked = ["data.train.modality=modality", "data.validation.where.modality=b"]
    loaded = load_recipe(recipe, overrides=[*asked, "data.validation.modality=modality"])
    with pytest.raises(
        ConfigError, match=r"stage within: `data.validation` must have 2 pairs .* got 0 of 12"
    ):
        check_recipe(loaded, subject="recipe", out=tmp_path / "run")


def test_validation_rows_that_are_of_no_use_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others cost what they cost: a second an image for each of two teachers."""
    monkeypatch.setattr(check, "seconds_per_image_of_teacher", lambda _: 1.0)
    recipe = world(tmp_path / "world", stages=[ACROSS, BY_STAGE[1]], validated=True)
    table = recipe.parent / "pairs.csv"
    lines = table.read_text().splitlines()
    image, *_ = lines[-1].split(",")
    table.write_text("\n".join([*lines[:-1], f"{image},,val,b"]) + "\n")
    found = check_recipe(load_recipe(recipe), subject="recipe", out=tmp_path / "run")
    notes = found.row_notes
    assert "validation table: 1 of 24 rows have no caption; they are left out" in notes
    assert "validation table: no stage looks at it, but its rows are read with the others" in notes
    assert found.estimate.extraction_seconds == 2 * (TRAIN + VALIDATION - 1)
