"""`meddistill train` in two processes with torchrun's environment gives the student that one gives."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from meddistill.cli import main
from meddistill.recipes.load import load_recipe
from meddistill.students.build import build_student
from recipe_data import hashes, write_yaml
from recipe_data import recipe as small_recipe
from two_processes import command_in_two


@pytest.fixture(scope="module")
def recipe(small_world: Path) -> Path:
    """A student without batch statistics."""
    stages = [{**stage, "epochs": 2} for stage in small_recipe()["stages"]]
    content = {**small_recipe(), "name": "two", "student": {"open_clip": "vit.json"}, "stages": stages}
    return write_yaml(small_world.parent / "two.yaml", content)


@pytest.fixture(scope="module")
def one(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def two(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    out = tmp_path_factory.mktemp("two") / "run"
    (code, said, told), (other, also_said, also_told) = command_in_two(
        "train", str(recipe), "--out", str(out)
    )
    assert (code, other) == (0, 0), told + also_told
    return out, said + also_said, told + also_told


def test_the_student_is_the_one_of_one_process(one: Path, two: tuple[Path, str, str]) -> None:
    """Sums run in another order, and ten steps of Adam carry that along."""
    expected = load_file(one / "student" / "open_clip_model.safetensors")
    found = load_file(two[0] / "student" / "open_clip_model.safetensors")
    assert expected.keys() == found.keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_training_moved_the_weights_by_more_than_that(one: Path, recipe: Path) -> None:
    loaded = load_recipe(recipe)
    initial = build_student(loaded.recipe.student, base=loaded.base, seed=0).model.state_dict()
    trained = load_file(one / "student" / "open_clip_model.safetensors")
    moved = [(trained[name] - initial[name]).abs().max().item() for name in trained]
    assert sorted(moved)[len(moved) // 2] > 2e-3


def test_the_store_is_the_same_and_only_one_process_speaks(one: Path, two: tuple[Path, str, str]) -> None:
    out, told, said = two
    expected = hashes(one / "features")
    assert hashes(out / "features") == expected
    assert [line.partition(":")[0] for line in told.splitlines()] == ["features", "student"]
    assert sum(line.startswith("Training distill") for line in said.splitlines()) == 1


def test_one_process_goes_on_where_two_were(recipe: Path, two: tuple[Path, str, str]) -> None:
    """A finished run of two processes is a finished run."""
    before = hashes(two[0])
    assert main(["train", str(recipe), "--out", str(two[0])]) == 0
    assert hashes(two[0]) == before
