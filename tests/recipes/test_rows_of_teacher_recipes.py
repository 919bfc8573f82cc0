"""What a teacher of kind `recipe` has learnt from is asked by no suite, and chooses nothing."""

from pathlib import Path
from typing import Any

import pytest

from coloured_world import BY_STAGE, STUDENT_TRAINING, WITHIN, teacher, world
from meddistill.errors import ConfigError
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from recipe_data import RESNET, write_yaml

TABLE = {"table": "pairs.csv", "text": "text"}
SUITE = {
    "name": "suite",
    "tables": {"pairs": {**TABLE, "where": {"split": "val"}}},
    "tasks": [{"name": "retrieval", "kind": "retrieval", "table": "pairs"}],
}


def _mistakes(path: Path, **changed: Any) -> str:
    learnt = {
        "name": "large",
        "data": {"train": {**TABLE, "where": {"split": "val"}}},
        "student": RESNET,
        "stages": [{"name": "alone", "method": "contrastive", **STUDENT_TRAINING}],
        "licence_policy": "any",
        **changed,
    }
    write_yaml(path.parent / "large.yaml", learnt)
    with pytest.raises(ConfigError) as refused:
        check_recipe(load_recipe(path), subject="recipe", out=path.parent / "run")
    return str(refused.value)


def test_rows_that_a_teacher_was_trained_on(tmp_path: Path) -> None:
    large = {"kind": "recipe", "recipe": "large.yaml"}
    path = world(
        tmp_path / "world",
        teachers={"warm": teacher(), "large": large},
        stages=[WITHIN, BY_STAGE[0]],
        validated=True,
        evaluate={"suite": "suite.yaml"},
    )
    write_yaml(path.parent / "suite.yaml", SUITE)
    told = _mistakes(path)
    assert "`data.train of teacher large` and `data.validation` must not share images" in told
    assert "`data.validation, data.train of teacher large` and `table pairs` must not share images" in told
    # Of a table that the student learns from too, what leaks is told once.
    write_yaml(path.parent / "suite.yaml", SUITE | {"tables": {"pairs": TABLE}})
    told = _mistakes(path, data={"train": {**TABLE, "where": {"split": "train"}}})
    assert told.count("`table pairs` must not share images") == 2  # and those of `data.validation`
    assert "`the training table, data.train of teacher large` and `table pairs` must not share images" in told
    write_yaml(path.parent / "suite.yaml", SUITE)
    # Its own suite and baselines, which its run never comes to, are not looked at.
    baseline = {"kind": "timm", "model": "local-dir:absent", "licence": "MIT"}
    own = {"suite": "suite.yaml", "baselines": {"absent": baseline}}
    told = _mistakes(path, evaluate=own)
    assert "teacher `large`" not in told
