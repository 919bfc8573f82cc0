"""The small world and its finished run, made once; tests copy what they change."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from made_once import made_once
from recipe_data import LIGHT, do_run, write_world


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The recipe of a world that no test changes."""
    recipe = made_once(tmp_path_factory, "small", _make_world) / "world" / "recipe.yaml"
    before = _pictures(recipe.parent)
    yield recipe
    assert _pictures(recipe.parent) == before, "a test wrote into a picture: put another in its place"


def _pictures(world: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in world.rglob("*.png")}


@pytest.fixture(scope="session")
def finished_run(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `small_world` that no test changes."""
    return made_once(tmp_path_factory, "small-run", lambda folder: _run(small_world, folder)) / "run"


@pytest.fixture(scope="session")
def light_run(small_world: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with a bundle without ONNX files, which is soon exported again."""

    def make(folder: Path) -> None:
        shutil.copytree(finished_run, folder / "run")
        do_run(small_world, folder / "run", LIGHT)

    return made_once(tmp_path_factory, "light-run", make) / "run"


@pytest.fixture
def own_light_run(light_run: Path, tmp_path: Path) -> Path:
    """A copy of the light run, with the times of its files."""
    shutil.copytree(light_run, tmp_path / "run")
    return tmp_path / "run"


def _make_world(folder: Path) -> None:
    write_world(folder / "world")


def _run(recipe: Path, folder: Path) -> None:
    do_run(recipe, folder / "run")


@pytest.fixture
def own_world(small_world: Path, tmp_path: Path) -> Path:
    """The recipe of a copy of the world that a test may change.

    Its pictures, hundreds of files, are those of the world itself: to change one, unlink it first.
    """
    shutil.copytree(small_world.parent, tmp_path / "world", copy_function=_picture_or_copy)
    return tmp_path / "world" / small_world.name


def _picture_or_copy(source: str, target: str) -> None:
    if source.endswith(".png"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with the times of its files."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"
