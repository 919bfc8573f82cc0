"""A world to damage, the command line to try it with, and one finished run."""

import csv
from pathlib import Path

import pytest
from faulty_world import Say, World, say_with

from made_once import made_once
from meddistill.cli import main


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    return say_with(capsys)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "world")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A whole run of a world without faults, which no test changes."""
    folder = made_once(tmp_path_factory, "finished", lambda folder: _run(folder / "world")) / "world"
    with (folder / "pairs.csv").open(newline="") as file:
        return _with_onnx(World(folder, list(csv.DictReader(file))))


def _with_onnx(world: World) -> World:
    world.recipe["bundle"] = {"formats": ["open_clip", "onnx"]}
    world.recipe["student"]["text"]["vocabulary"] = 300  # CLIP's is read for seconds by every command
    return world


def _run(folder: Path) -> None:
    world = _with_onnx(World.make(folder))
    assert main(["run", str(world.write()), "--out", str(world.out), "--quiet"]) == 0
