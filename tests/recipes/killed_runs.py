"""Kills runs of the command line, gives the same command again, and compares; run by test_killed_runs.

`python killed_runs.py FOLDER` prints, as JSON, what came of every kill. Forks from a process without threads,
so that a run does not pay for its imports.
"""

import fnmatch
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import meddistill.recipes.pipeline
from meddistill.cli import main
from recipe_data import hashes, write_world

KILLED = -signal.SIGKILL
# What a verb leaves that has to be the same, bit for bit.
PARTS = {
    "train": ("features/[!.]*", "student/*", "stages/*.safetensors"),
    "evaluate": ("features/[!.]*", "student/*", "evaluation/results.json"),
    "export": ("student/*", "bundle/*"),
}


@dataclass(frozen=True)
class Kill:
    """Dies before the `occurrence`-th time that `event` happens to a path like `pattern`."""

    verb: str
    event: str
    pattern: str
    occurrence: int = 1


KILLS = {
    "a shard has no name": Kill("train", "os.rename", "*/features/teachers/*/image-00000032.safetensors"),
    "a shard is in no manifest": Kill(
        "train", "os.rename", "*/features/teachers/microscopy/manifest.json", 3
    ),
    "middle of the first epoch": Kill("train", "os.rename", "*/pretrain/checkpoints/step-000000004"),
    "middle of the second epoch": Kill("train", "os.rename", "*/distill/checkpoints/step-000000008"),
    "a checkpoint is half written": Kill("train", "open", "*/.partial-step-000000004/optimiser.pt"),
    "a stage is not marked as done": Kill("train", "os.rename", "*/pretrain/done.json"),
    "a stage is no finished step": Kill("train", "os.rename", "*/steps.json", 2),
    "the student has no place": Kill("train", "os.rename", "*/student"),
    "predictions are half written": Kill("evaluate", "os.rename", "*/predictions/*.parquet", 7),
    "a tower is exported": Kill("export", "open", "*/.bundle.partial/onnx/text.onnx*"),
}


def in_child(work: Callable[[], int], said: Path) -> int:
    """Fork, do the work with its words in `said`; the child's process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = work()
    finally:
        os._exit(code)


def outcome(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(verb: str, recipe: Path, out: Path) -> int:
    return main([verb, str(recipe), "--out", str(out), "--quiet"])


def mortal(kill: Kill, recipe: Path, out: Path) -> int:
    """The command, which dies where it is told to."""
    passed = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal passed
        if event != kill.event:
            return
        place = arguments[1] if event == "os.rename" else arguments[0]
        if isinstance(place, str | Path) and fnmatch.fnmatch(str(place), kill.pattern):
            passed += 1
            if passed == kill.occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return command(kill.verb, recipe, out)


def compare(whole: Path, out: Path, verb: str) -> dict[str, object]:
    """Files that are not those of the run that nobody killed, and how many were compared."""
    expected, found = hashes(whole), hashes(out)
    names = [name for name in {**expected, **found} if any(map(partial(fnmatch.fnmatch, name), PARTS[verb]))]
    differing = [name for name in names if expected.get(name) != found.get(name)]
    return {"compared": len(names), "differing": differing}


def kill_once(kill: Kill, recipe: Path, whole: dict[str, Path]) -> dict[str, object]:
    out, said = recipe.parent / "killed", recipe.parent / "said"
    shutil.rmtree(out, ignore_errors=True)
    before = {"train": None, "evaluate": whole["train"], "export": whole["evaluate"]}[kill.verb]
    if before is not None:
        shutil.copytree(before, out)
    code = outcome(in_child(partial(mortal, kill, recipe, out), said))
    shards = written(out)
    again = outcome(in_child(partial(command, kill.verb, recipe, out), said))
    found = compare(whole[kill.verb], out, kill.verb)
    kept = [name for name, when in written(out).items() if shards.get(name) == when]
    return {**found, "killed": code, "again": again, "said": said.read_text(), "kept": len(kept)}


def written(out: Path) -> dict[str, int]:
    """The shards of images, and when each was written."""
    found = out.glob("features/teachers/*/image-*.safetensors")
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in found}


def killed_from_outside(recipe: Path, whole: dict[str, Path]) -> dict[str, object]:
    """A kill as soon as the first checkpoint is seen; tried again if the run was faster."""
    out, said = recipe.parent / "outside", recipe.parent / "said"
    code = 0
    for _ in range(10):
        shutil.rmtree(out, ignore_errors=True)
        child = in_child(partial(command, "train", recipe, out), said)
        ended, status = 0, 0
        while not ended and not list(out.glob("stages/*/checkpoints/step-*")):
            time.sleep(0.001)
            ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, said.read_text()
            continue
        os.kill(child, signal.SIGKILL)
        code = outcome(child)
        if code == KILLED:
            break
    again = outcome(in_child(partial(command, "train", recipe, out), said))
    found = compare(whole["train"], out, "train")
    return {**found, "killed": code, "again": again, "said": said.read_text()}


def run_all(folder: Path) -> dict[str, dict[str, object]]:
    recipe = write_world(folder / "world")
    whole = {verb: folder / verb for verb in PARTS}
    previous = None
    for verb, out in whole.items():
        if previous is not None:
            shutil.copytree(previous, out)
        assert outcome(in_child(partial(command, verb, recipe, out), folder / "said")) == 0, verb
        previous = out
    found = {name: kill_once(kill, recipe, whole) for name, kill in KILLS.items()}
    return {**found, "from outside": killed_from_outside(recipe, whole)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert meddistill.recipes.pipeline  # imported once, for all children
    os.fsync = lambda _: None  # what a killed process wrote is not lost, so nobody has to wait for the disk
    sys.stdout.write(json.dumps(run_all(Path(sys.argv[1]))))
