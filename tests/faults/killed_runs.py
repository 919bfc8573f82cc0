"""Kills runs at chosen places, gives the same command again, and compares; run by test_kills.

`main` prints, as JSON, what came of every kill.
"""

import fnmatch
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fault_counts import REPEATS
from mortal import command, differing, do, whole_run, world_of_two_stages


@dataclass(frozen=True)
class Kill:
    """Dies before the `occurrence`-th time that `event` happens to a path like `pattern`."""

    verb: str
    event: str
    pattern: str
    occurrence: int = 1


_JUDGED = "*/evaluation/features/*"
EVERY_KILL = {
    "a shard has no name": Kill("train", "os.rename", "*/features/teachers/*/image-00000016.safetensors"),
    "a shard is in no manifest": Kill("train", "os.rename", "*/features/teachers/two/manifest.json", 3),
    "middle of the first epoch": Kill("train", "os.rename", "*/pretrain/checkpoints/step-000000004"),
    "middle of the second epoch": Kill("train", "os.rename", "*/distill/checkpoints/step-000000006"),
    "a checkpoint is half written": Kill("train", "open", "*/.step-000000004.partial/optimiser.pt"),
    "a stage is not marked as done": Kill("train", "os.rename", "*/pretrain/done.json"),
    "a stage is no finished step": Kill("train", "os.rename", "*/steps.json", 2),
    "the student has no place": Kill("train", "os.rename", "*/student"),
    "a judged shard has no name": Kill("evaluate", "os.rename", f"{_JUDGED}/images/*/image-*.safetensors", 2),
    "a judged shard is in no manifest": Kill("evaluate", "os.rename", f"{_JUDGED}/texts/*/manifest.json", 2),
    "judged rows have no shard": Kill("evaluate", "open", f"{_JUDGED}/images/*/.image-*.part"),
    "predictions are half written": Kill("evaluate", "os.rename", "*/predictions/*.parquet", 5),
    "a bundle is half written": Kill("export", "open", "*/.bundle.partial/preprocessing.json"),
}
BEFORE = {"evaluate": "train", "export": "evaluate"}
# Each kind of half-written thing; `make faults` tries all of them.
CHOSEN = (
    "a shard has no name", "middle of the first epoch", "middle of the second epoch",
    "a checkpoint is half written", "a stage is no finished step", "a judged shard is in no manifest",
    "a bundle is half written",
)  # fmt: skip
KILLS = {name: EVERY_KILL[name] for name in (EVERY_KILL if REPEATS > 2 else CHOSEN)}


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


def kill_once(kill: Kill, recipe: Path, whole: dict[str, Path]) -> dict[str, object]:
    out = recipe.parent / "killed"
    shutil.rmtree(out, ignore_errors=True)
    if kill.verb in BEFORE:
        shutil.copytree(whole[BEFORE[kill.verb]], out)
    code, _ = do(partial(mortal, kill, recipe, out))
    shards = written(out)
    again, said = do(partial(command, kill.verb, recipe, out))
    now = written(out)
    return {
        "killed": code,
        "again": again,
        "said": said,
        "differing": differing(whole[kill.verb], out, kill.verb),
        "kept": sum(now[name] == when for name, when in shards.items()),
    }


def written(out: Path) -> dict[str, int]:
    """The shards of images, and when each was written."""
    found = out.glob("features/teachers/*/image-*.safetensors")
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in found}


def run_all(folder: Path) -> dict[str, dict[str, object]]:
    recipe = world_of_two_stages(folder / "world").folder / "recipe.yaml"
    whole: dict[str, Path] = {}
    for verb in ("train", "evaluate", "export"):
        if verb in BEFORE:
            shutil.copytree(whole[BEFORE[verb]], folder / verb)
        whole[verb] = whole_run(verb, recipe, folder / verb)
    return {name: kill_once(kill, recipe, whole) for name, kill in KILLS.items()}


def main(folder: Path) -> None:
    sys.stdout.write(json.dumps(run_all(folder)))
