"""The small world and its finished run, made once; tests copy what they change."""

import shutil
from pathlib import Path

import pytest

import recipe_data


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a world that no test changes."""
    return recipe_data.small_world(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `small_world` that no test changes."""
    return recipe_data.finished_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def own_world(small_world: Path, tmp_path: Path) -> Path:
    """The recipe of a copy of the world that a test may change."""
    shutil.copytree(small_world.parent, tmp_path / "world")
    return tmp_path / "world" / small_world.name


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, with the times of its files."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"
