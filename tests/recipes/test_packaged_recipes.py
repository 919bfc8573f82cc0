"""Every recipe that the package ships parses, and resolves to what its golden file says."""

import os
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from meddistill.recipes.demo import demo_suite
from meddistill.recipes.schema import Recipe
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import apply_smoke, read_yaml

FOLDER = Path(str(files("meddistill.recipes")))
RECIPES = sorted(FOLDER.glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"


def _resolved(path: Path) -> str:
    recipe = validated(Recipe, read_yaml(path), subject=path.name)
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)


def test_there_are_recipes() -> None:
    assert {path.name for path in RECIPES} >= {"demo.yaml", "demo_teacher.yaml"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_resolves_to_its_golden_file(path: Path) -> None:
    """A change of a shared default shows up here; UPDATE_GOLDEN=1 writes the files anew."""
    golden = GOLDEN / path.name
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(_resolved(path))
    assert golden.read_text() == _resolved(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_a_smoke_dial_that_parses(path: Path) -> None:
    content = read_yaml(path)
    assert content["smoke"]
    validated(Recipe, apply_smoke(content), subject=path.name)


def test_the_specialists_of_the_demo_are_asked_about_what_they_learn() -> None:
    for name, teacher in read_yaml(FOLDER / "demo.yaml")["teachers"].items():
        assert teacher["set"]["data.train.where.modality"] == teacher["modalities"]
        assert teacher["set"]["name"] == name


def test_the_demo_suite_judges_every_modality() -> None:
    names = [task["name"] for task in demo_suite()["tasks"]]
    assert len(names) == len(set(names)) == 13
