"""Kills extractions, goes on with them, and compares the stores; run by test_feature_crash.

Forks from a process without threads, so that each extraction costs milliseconds. `main` prints how many files
a store has, and the kills of each manner.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from meddistill.data.samples import Samples
from meddistill.features.extract import extract
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher, tree

SURVIVED = 0
MOST = 1000
FIRST_KILL = 0.05  # seconds
PROGRESS = 30  # names given or lost before a kill: more than coming in and the beginning of a store take


def run(samples: Samples, store: Path) -> None:
    teachers = {"a": toy_teacher("a"), "b": toy_teacher("b", kind=ToyImages, seed=1)}
    extract(store, samples, teachers, SMALL)


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = SURVIVED
        finally:
            os._exit(code)
    return child


def outcome(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(point: int, samples: Samples, store: Path) -> None:
    """Extract, but die before the `point`-th time that a file gets its name or loses it."""
    passed = 0

    def mortal(operation: Callable) -> Callable:
        def wrapped(*arguments, **named):
            nonlocal passed
            passed += 1
            if passed == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **named)

        return wrapped

    for name in ("replace", "unlink", "link"):
        setattr(os, name, mortal(getattr(os, name)))
    run(samples, store)


def every(folder: Path, samples: Samples, expected: dict[str, bytes]) -> int:
    """One kill at every point, each in a new store; where faults are tried seldom, at every third."""
    store = folder / "every"
    stride = 3 if int(os.environ["MEDDISTILL_FAULT_REPEATS"]) < 3 else 1
    first = 1 + int(os.environ["MEDDISTILL_FAULT_SEED"]) % stride
    for kills, point in enumerate(range(first, MOST, stride)):
        shutil.rmtree(store, ignore_errors=True)
        if outcome(in_child(partial(killed_at, point, samples, store))) == SURVIVED:
            return kills
        run(samples, store)
        assert tree(store) == expected, point
    raise AssertionError


def chain(folder: Path, samples: Samples, expected: dict[str, bytes]) -> int:
    """Kill after kill in one store."""
    store = folder / "chain"
    for kills in range(MOST):
        if outcome(in_child(partial(killed_at, PROGRESS, samples, store))) == SURVIVED:
            assert tree(store) == expected
            return kills
    raise AssertionError


def at_random(folder: Path, samples: Samples, expected: dict[str, bytes]) -> int:
    """Kills from outside at random moments, later and later, until an extraction is done before its kill.

    A machine on which that happens before the third kill begins again with an empty store.
    """
    numbers = random.Random(0)
    store = folder / "random"
    longest, kills = FIRST_KILL, 0
    for _ in range(MOST):
        child = in_child(partial(run, samples, store))
        time.sleep(numbers.uniform(0.0, longest))
        longest *= 1.2
        os.kill(child, signal.SIGKILL)
        if outcome(child) != SURVIVED:
            kills += 1
            continue
        assert tree(store) == expected
        if kills > 2:
            return kills
        shutil.rmtree(store)
        longest = FIRST_KILL
    raise AssertionError


def main(folder: Path) -> None:
    samples = toy_samples(folder / "images", 9, captions=12)
    assert outcome(in_child(partial(run, samples, folder / "whole"))) == SURVIVED
    expected = tree(folder / "whole")
    kills = [manner(folder, samples, expected) for manner in (every, chain, at_random)]
    sys.stdout.write(" ".join(map(str, [len(expected), *kills])))
