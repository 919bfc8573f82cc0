"""A disk that fills up: told with what to do, nothing half-written; with room, the same command goes on."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fault_counts import REPEATS, SEED

from recipe_data import environment

SCRIPT = Path(__file__).with_name("no_room.py")
# A file system of this process alone; the mount is gone with it.
MOUNT = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=96m none "$1"; shift; exec "$@"'
WORDS = {"disk": "must lie on a disk with room; got: No space left", "limit": "Raise the limit (`ulimit -f`)"}


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture(params=["limit", "disk"])
def lost(request: pytest.FixtureRequest, tmp_path: Path, verb: str) -> tuple[str, list[dict[str, Any]]]:
    """What came of losing all room in one of the two manners."""
    manner: str = request.param
    times = REPEATS if manner == "limit" else -(-REPEATS // 3)
    command = [sys.executable, str(SCRIPT), str(tmp_path), manner, verb, str(times), str(SEED)]
    if manner == "disk":
        prefix = [*MOUNT, ON_A_SMALL_DISK, "sh", str(tmp_path)]
        if _run([*prefix, "true"]).returncode:
            pytest.skip("this machine lets nobody mount a small disk; the limit of file sizes is tried")
        command = [*prefix, *command]
    done = _run(command)
    assert done.returncode == 0, done.stderr
    return manner, json.loads(done.stdout)


@pytest.mark.parametrize("verb", ["extract", "train"])
def test_a_command_without_room_goes_on_once_there_is_some(
    lost: tuple[str, list[dict[str, Any]]], verb: str
) -> None:
    manner, found = lost
    assert found
    for each in found:
        told = f"seed {SEED}, place {each['place']}: {each['said']}"
        assert each["code"] == 2, told
        assert "Traceback" not in each["said"], told
        assert each["said"].count("Error: ") == 1, told
        assert WORDS[manner] in each["said"], told
        assert "give the same command again" in each["said"], told
        assert each["halves"] == [], told
        assert each["again"] == 0, each["afterwards"]
        assert each["differing"] == [], told
