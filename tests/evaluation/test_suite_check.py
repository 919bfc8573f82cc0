"""A suite must not judge on patients or images that the student learnt from."""

import shutil
from pathlib import Path

import pytest
from colour_world import suite, table, write_world

from meddistill.data.config import TableConfig
from meddistill.data.keys import image_keys
from meddistill.data.table import read_table
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_check import TrainingRows, check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables


def training(world: Path, config: dict) -> TrainingRows:
    samples = read_table(TableConfig(**config), base=world)
    return TrainingRows(samples=samples, keys=image_keys(samples))


def test_the_train_split_may_be_learnt_from(world: Path) -> None:
    check_tasks(suite(), SuiteTables(suite(), base=world), training(world, table("train")))


def test_judged_patients_must_be_unknown_to_the_student(world: Path) -> None:
    learnt = training(world, {**table("train"), "where": {"split": ["train", "test"]}})
    with pytest.raises(ConfigError) as caught:
        check_tasks(suite(), SuiteTables(suite(), base=world), learnt)
    patients, images = caught.value.mistakes
    assert "`the training table` and `table test` must not share patients; 6 patients are in both" in patients
    assert "must not share images; 12 images are in both" in images
    assert "name-of" not in str(caught.value)


def test_copies_under_other_names_and_patients_are_found(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    shutil.copy(world / "p1_0.png", world / "copy.png")  # patient 1 is of the test split
    (world / "other.csv").write_text("image,text,patient\ncopy.png,a picture,somebody else\n")
    learnt = training(world, {"table": "other.csv", "text": "text", "patient": "patient"})
    with pytest.raises(ConfigError, match="must not share images; 1 image is in both \\(row 1 of") as caught:
        check_tasks(suite(), SuiteTables(suite(), base=world), learnt)
    assert len(caught.value.mistakes) == 1
