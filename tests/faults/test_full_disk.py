"""A disk that fills up: told with what to do, nothing half-written; with room, the same command goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_counts import REPEATS, SEED
from no_room import VERBS

from recipe_data import environment

SCRIPT = Path(__file__).with_name("no_room.py")
# A file system of this process alone; the mount is gone with it.
ON_A_SMALL_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
MOUNT = 'mount -t tmpfs -o size=96m none "$1"; shift; exec "$@"'
WORDS = {"disk": "must lie on a disk with room; got: No space left", "limit": "Raise the limit (`ulimit -f`)"}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _mounting(place: Path) -> list[str]:
    """What a command begins with to see a small disk at `place`; empty where nobody may mount one.

    Without a disk the limit of file sizes is tried alone.
    """
    prefix = [*ON_A_SMALL_DISK, MOUNT, "sh", str(place)]
    try:
        return [] if _run([*prefix, "true"]).returncode else prefix
    except FileNotFoundError:
        return []


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """The manners that could be tried, and what came of each verb."""
    place = tmp_path_factory.mktemp("disk")
    mounting = _mounting(place)
    manners = ["limit", "disk"] if mounting else ["limit"]
    times = max(1, REPEATS // 2)  # of each verb
    script = [sys.executable, str(SCRIPT), str(place), ",".join(manners), str(times), str(SEED)]
    done = _run([*mounting, *script])
    assert done.returncode == 0, done.stderr
    return manners, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_command_without_room_goes_on_once_there_is_some(
    verb: str, outcomes: tuple[list[str], dict[str, list[dict[str, Any]]]]
) -> None:
    manners, found = outcomes[0], outcomes[1][verb]
    first = manners if verb == VERBS[0] else manners[::-1]
    assert [each["manner"] for each in found[:2]] == (first * 2)[: len(found[:2])]
    for each in found:
        told = f"seed {SEED}, place {each['place']}: {each['said']}"
        assert each["code"] == 2, told
        assert "Traceback" not in each["said"], told
        assert each["said"].count("Error: ") == 1, told
        assert WORDS[each["manner"]] in each["said"], told
        assert "give the same command again" in each["said"], told
        assert each["halves"] == [], told
        assert each["again"] == 0, each["afterwards"]
        assert each["differing"] == [], told
