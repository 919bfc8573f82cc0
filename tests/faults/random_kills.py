"""Kills commands at random moments, gives them again and again, and compares; run by test_kills.

`main` prints, as JSON, what came of each verb. Moments are shares of what a run without kills takes, drawn
from the seed. A run that was faster than its kill is compared, and the next one begins with an empty folder.
"""

import json
import random
import shutil
import sys
import time
from functools import partial
from pathlib import Path

from mortal import (
    KILLED,
    begin,
    command,
    differing,
    do,
    whole_run,
    with_more_rows,
    world_of_two_stages,
)

VERBS = ("extract", "train")
MORE_ROWS = 60
PATIENCE = 20  # runs for each kill, on a machine that finishes most of them before


def fresh(out: Path, features: Path | None) -> None:
    """An empty folder, or, for training, one whose features are there."""
    shutil.rmtree(out, ignore_errors=True)
    if features is not None:
        shutil.copytree(features, out)


def kill_at_random(folder: Path, verb: str, kills: int, seed: int) -> dict[str, object]:
    world = with_more_rows(world_of_two_stages(folder / "world"), MORE_ROWS)
    recipe = world.folder / "recipe.yaml"
    numbers = random.Random(seed)
    features = whole_run("extract", recipe, folder / "features") if verb == "train" else None
    whole, out = folder / "whole", folder / "killed"
    fresh(whole, features)
    began = time.monotonic()
    whole_run(verb, recipe, whole)
    longest = time.monotonic() - began
    fresh(out, features)
    moments: list[str] = []
    compared, wrong = 0, []
    for _ in range(kills * PATIENCE):
        share = numbers.random()
        child = begin(partial(command, verb, recipe, out))
        time.sleep(share * longest)
        child.kill()
        code, said = child.outcome()
        if code == KILLED:
            moments.append(f"{share:.3f} of {longest:.2f} s")
        else:
            assert code == 0, said
        if code == 0 or len(moments) == kills:
            code, said = do(partial(command, verb, recipe, out))
            assert code == 0, said
            compared += 1
            wrong += differing(whole, out, verb)
            fresh(out, features)
        if len(moments) == kills:
            break
    return {"killed": moments, "compared": compared, "differing": wrong}


def main(place: Path, kills: int, seed: int) -> None:
    sys.stdout.write(json.dumps({verb: kill_at_random(place / verb, verb, kills, seed) for verb in VERBS}))
