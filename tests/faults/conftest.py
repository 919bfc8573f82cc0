"""A world to damage, the command line to try it with, and one finished run."""

from pathlib import Path

import pytest
from faulty_world import Say, World, say_with

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
    world = World.make(tmp_path_factory.mktemp("finished") / "world")
    world.recipe["bundle"] = {"formats": ["open_clip", "onnx"]}
    assert main(["run", str(world.write()), "--out", str(world.out), "--quiet"]) == 0
    return world
