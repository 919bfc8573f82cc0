"""Takes all room away while commands write, gives some again, and compares; run by test_full_disk.

`python no_room.py FOLDER MANNERS TIMES SEED` prints, as JSON, what came of each verb. The manners take turns:
`disk`, where FOLDER is a small file system of its own that a file of ballast fills, and `limit`, where no
file may grow any more (RLIMIT_FSIZE, which needs no rights). Room goes away just before a file is opened for
writing or a folder is made; which one is drawn from the seed.
"""

import json
import os
import random
import resource
import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

from mortal import command, differing, do, prepare, whole_run, world_of_two_stages

VERBS = ("extract", "train")
BALLAST = "ballast"


def fill_disk(folder: Path) -> None:
    with (folder / BALLAST).open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


def forbid_growth(_: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


MANNERS: dict[str, Callable[[Path], None]] = {"disk": fill_disk, "limit": forbid_growth}


def watched(folder: Path, out: Path, verb: str, *, place: int, lose: Callable[[Path], None]) -> int:
    """The command, without room from the `place`-th thing on that it makes in `out`; tells of each."""
    made = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal made
        if event == "open":
            path, _, flags = arguments
            makes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        elif event == "os.mkdir":
            path, makes = arguments[0], True
        else:
            return
        if makes and str(path).startswith(f"{out}/"):
            made += 1
            if made == place:
                lose(folder)
            elif not place:
                sys.stderr.write("made\n")

    sys.addaudithook(hook)
    return command(verb, folder / "world" / "recipe.yaml", out)


def lose_room(
    folder: Path, manners: list[str], verb: str, *, times: int, seed: int
) -> list[dict[str, object]]:
    recipe = world_of_two_stages(folder / "world").folder / "recipe.yaml"
    features = whole_run("extract", recipe, folder / "features") if verb == "train" else None
    whole, out = folder / "whole", folder / "out"

    def fresh(place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        if features is not None:
            shutil.copytree(features, place)

    fresh(whole)
    _, said = do(partial(watched, folder, whole, verb, place=0, lose=fill_disk))
    places = random.Random(seed).sample(range(2, said.count("made\n") + 1), times)
    found = []
    for place, manner in zip(places, cycle(manners), strict=False):
        fresh(out)
        code, said = do(partial(watched, folder, out, verb, place=place, lose=MANNERS[manner]))
        (folder / BALLAST).unlink(missing_ok=True)
        halves = [path.relative_to(out).as_posix() for path in out.rglob("*") if ".part" in path.name]
        again, afterwards = do(partial(command, verb, recipe, out))
        found.append(
            {
                "place": place,
                "manner": manner,
                "code": code,
                "said": said,
                "halves": halves,
                "again": again,
                "afterwards": afterwards,
                "differing": differing(whole, out, verb),
            }
        )
    return found


if __name__ == "__main__":
    prepare()
    place, names, times, seed = sys.argv[1:]
    outcomes, manners = {}, names.split(",")
    for verb in VERBS:
        folder = Path(place) / verb
        outcomes[verb] = lose_room(folder, manners, verb, times=int(times), seed=int(seed))
        manners.reverse()  # each manner is tried even where each verb is tried once
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(outcomes))
