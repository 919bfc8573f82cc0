"""`meddistill check`: every mistake at once, nothing run, and what a run would cost."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import recipe_data
from meddistill.cli import main
from meddistill.errors import ConfigError
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from recipe_data import CLASSES, TEACHERS, hashes, suite, write_yaml
from tiny_teachers import save_dinov2


@pytest.fixture
def content() -> dict[str, Any]:
    return recipe_data.recipe()


def _check(recipe: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["check", str(recipe), *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _spoil_what_files_tell(folder: Path, content: dict[str, Any]) -> list[str]:
    """Mistakes that only tables, teachers and licences show; the words that must tell of each."""
    content["data"]["train"]["modality"] = "modalty"
    content["teachers"]["microscopy"]["model"] = "local-dir:teachers/absent"
    content["teachers"]["general"]["licence"] = "CC-BY-NC-4.0"
    content["student"] = {"image_tower": "test_resnett", "image_size": 32}
    other = suite()
    other["tasks"][0]["classes"] = dict(list(CLASSES.items())[:-1])
    other["tasks"].append({"name": "gone", "kind": "knn", "train": "train", "test": "absent", "k": 1})
    other["tables"]["absent"] = {**other["tables"]["test"], "table": "data/absent.csv"}
    write_yaml(folder / "suite.yaml", other)
    return [
        r"`modality` must name a column; got `modalty`.*Did you mean `modality`\?",
        r"teachers?.*microscopy.*absent",
        r"general \(CC-BY-NC-4\.0\)",
        r"test_resnett",
        r"data/absent\.csv.*`table` must exist",
    ]


def test_all_mistakes_that_files_tell_come_at_once(
    own_world: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _spoil_what_files_tell(own_world.parent, content)
    code, out, err = _check(write_yaml(own_world, content), capsys)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert int(re.search(r": (\d+) mistakes", err)[1]) >= len(expected)
    for pattern in expected:
        assert re.search(pattern, err), f"{pattern} in {err}"


def test_mistakes_of_the_schema_do_not_hide_the_others(
    own_world: Path, content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _spoil_what_files_tell(own_world.parent, content)
    content["stages"][0]["epoch"] = content["stages"][0].pop("epochs")
    content["teachers"]["radiology"]["modalites"] = ["xray"]
    content["licence_polcy"] = "permissive"
    content["stages"][1]["selection"] = {"kind": "random_drew"}
    code, out, err = _check(write_yaml(own_world, content), capsys)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    expected += [
        r"`stages\.0\.epoch` must be a known key\. Did you mean `epochs`\?",
        r"`teachers\.radiology\.modalites` must be a known key\. Did you mean `modalities`\?",
        r"`licence_polcy` must be a known key\. Did you mean `licence_policy`\?",
        r"got 'random_drew'\. Did you mean `random_draw`\?",
    ]
    for pattern in expected:
        assert re.search(pattern, err), f"{pattern} in {err}"


def test_an_unknown_class_of_the_suite_is_told(own_world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = suite()
    other["tasks"][0]["classes"] = dict(list(CLASSES.items())[:-1])
    write_yaml(own_world.parent / "suite.yaml", other)
    code, _, err = _check(own_world, capsys)
    assert code == 2
    assert "skin photograph" in err
    assert "modality" in err


# Those of the file are told at once; those that need what the file names are told when it is right.
OF_THE_FILE = {
    "features.batch_size=7": "`shard_rows` must be a multiple of `batch_size`",
    "teachers.general.licence=GPL-77": "GPL-77",
}
OF_WHAT_IT_NAMES = {
    "stages.1.batch_size=999": "stage distill: `batch_size` must be from 1 to the rows; got 999 for 82",
    "student={image_tower: test_resnett}": "`image_tower` must be a model that timm knows",
    "data.train.modality=null": "teacher `radiology`: `modalities` must have a column to be compared",
}
ALONE = {
    "evaluate.suite=absent.yaml": "absent.yaml",
    "teachers={}": "`teachers` must name one at least",
    "data.train.where.split=trian": "`where.split` must be values that occur; got 'trian'",
    "teachers.microscopy.modalities=[histo]": "teacher `microscopy`: `modalities` must name one at least",
}


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    "mistakes", [OF_THE_FILE, OF_WHAT_IT_NAMES, *({change: told} for change, told in ALONE.items())]
)
def test_mistakes_are_told_at_once_and_refused_by_a_run_as_well(
    own_world: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str, mistakes: dict[str, str]
) -> None:
    """Before anything is written but the lock."""
    capsys.readouterr()
    changes = [word for change in mistakes for word in ("--set", change)]
    code = main([verb, str(own_world), "--out", str(tmp_path / "out"), *changes])
    err = capsys.readouterr().err
    assert code == 2
    told = [words in err for words in mistakes.values()]
    assert all(told) if verb == "check" else any(told), err  # a run stops at the first that it meets
    assert "Traceback" not in err
    written = [path.name for path in (tmp_path / "out").rglob("*")] if (tmp_path / "out").exists() else []
    assert written == []


def test_a_teacher_that_cannot_do_what_is_asked_is_refused_before_an_image_is_read(
    own_world: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_dinov2(own_world.parent / "teachers" / "dino")
    teacher = "teachers.dino={kind: transformers, model: teachers/dino, licence: MIT}"
    for image in (own_world.parent / "data" / "images").iterdir():
        image.unlink()
        image.write_bytes(b"not read")
    capsys.readouterr()
    code = main(["run", str(own_world), "--out", str(tmp_path / "out"), "--set", teacher])
    err = capsys.readouterr().err
    assert code == 2
    assert (
        "teacher `dino` must have image and text embeddings for the objective interactive_contrastive" in err
    )
    assert "not read" not in err
    assert "images" not in err.partition("Error")[0]


def test_a_good_recipe_gives_teachers_licence_disk_and_time(
    own_world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = hashes(tmp_path)
    code, out, err = _check(own_world, capsys)
    assert code == 0, err
    for teacher in TEACHERS:
        assert teacher in out
    assert "The recipe is in order: 82 rows, 3 teachers." in out
    assert "The student would inherit: MIT (policy permissive)." in out
    assert float(re.search(r"Feature store: ([\d.]+) MB; free on disk: ([\d,.]+) GB", out)[1]) > 0
    assert re.search(r"extraction \d+ s, training \d+ s", out)
    assert hashes(tmp_path) == before, "a check writes nothing"


def test_flat_pictures_are_counted_by_row(
    own_world: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with (own_world.parent / "data" / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    deep = np.arange(3000, 3400, dtype=np.uint16).reshape(20, 20)
    image = own_world.parent / "data" / rows[1]["image"]
    image.unlink()
    Image.fromarray(deep).save(image)
    code, out, _ = _check(own_world, capsys, "--set", "data.train.decode.window=[40, 400]")
    assert code == 0
    assert re.search(r"Training table: .*at most 3 greys.*: 1 row \(row \d+\)", out)


def test_the_estimated_store_is_about_as_large_as_the_real_one(
    small_world: Path, finished_run: Path, tmp_path: Path
) -> None:
    cost = check_recipe(load_recipe(small_world), subject="small", out=tmp_path).estimate
    shards = finished_run.glob("features/teachers/*/*-0*.safetensors")
    numbers = 82 * 3 * 2 * 12 * 2  # rows, teachers, towers, width, bytes
    assert numbers <= cost.store_bytes <= 2 * sum(path.stat().st_size for path in shards)
    assert cost.rows == 82
    assert cost.free_bytes > 0


def test_a_long_list_says_how_much_it_leaves_out() -> None:
    assert "and 5 more" in str(ConfigError("x", [f"mistake {number}" for number in range(25)]))
