"""Commands in processes of their own, forked from one without threads, so that none pays for the imports."""

import fnmatch
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from faulty_world import World
from PIL import Image

import meddistill.recipes.pipeline
from forked import write_to
from meddistill.cli import main
from recipe_data import hashes

KILLED = -signal.SIGKILL
# What a verb leaves that has to be the same, bit for bit.
PARTS = {
    "extract": ("features/[!.]*",),
    "train": ("features/[!.]*", "student/*", "stages/*.safetensors"),
    "evaluate": ("features/[!.]*", "student/*", "evaluation/results.json"),
    "export": ("student/*", "bundle/*"),
}


@dataclass(frozen=True)
class Child:
    """A command at work in a process of its own."""

    pid: int
    said: int

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def outcome(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and what it said, once it has ended."""
        with os.fdopen(self.said, encoding="utf-8") as said:
            words = said.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), words


def begin(work: Callable[[], int]) -> Child:
    """Fork, and do the work there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return Child(child, reading)
    code = 1
    try:
        write_to(os.open(os.devnull, os.O_WRONLY), writing)
        code = work()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def do(work: Callable[[], int]) -> tuple[int, str]:
    """The work in a process of its own: exit code and words."""
    return begin(work).outcome()


def command(verb: str, recipe: Path, out: Path) -> int:
    """A verb of the command line."""
    return main([verb, str(recipe), "--out", str(out), "--quiet"])


def whole_run(verb: str, recipe: Path, out: Path) -> Path:
    """A run that nothing disturbs."""
    code, said = do(partial(command, verb, recipe, out))
    assert code == 0, said
    return out


def differing(whole: Path, out: Path, verb: str) -> list[str]:
    """The files that are not those of the run that nothing disturbed."""
    expected, found = hashes(whole), hashes(out)
    names = [name for name in {**expected, **found} if any(map(partial(fnmatch.fnmatch, name), PARTS[verb]))]
    assert len(names) > 5, names
    return [name for name in names if expected.get(name) != found.get(name)]


def world_of_two_stages(folder: Path) -> World:
    """Nine steps a stage, three an epoch; checkpoints in the middle of epochs."""
    world = World.make(folder)
    stage = {**world.recipe["stages"][0], "epochs": 3}
    objectives = {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0}
    alone = {key: value for key, value in stage.items() if key != "objectives"}
    world.recipe["stages"] = [
        {**alone, "name": "pretrain", "method": "contrastive"},
        {**stage, "objectives": objectives, "selection": {"kind": "random_draw"}},
    ]
    world.write()
    return world


def with_more_rows(world: World, count: int) -> World:
    """The world with `count` more pictures to train on, so that start and end are a run's lesser part."""
    numbers = np.random.default_rng(1)
    for place in range(count):
        name = f"images/more{place:03}.png"
        pixels = numbers.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(world.folder / name)
        row = {**world.rows[0], "id": f"more-{place}", "image": name, "text": f"further finding {place}"}
        world.rows.append(row)
    world.write()
    return world


def prepare() -> None:
    """Once, before the first child, where this is not a process of `forked`."""
    assert meddistill.recipes.pipeline  # imported for all children
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # what a killed process wrote is not lost, so nobody has to wait for the disk
    sys.stdin.close()
