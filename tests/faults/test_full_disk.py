"""A disk that fills up: told with what to do, nothing half-written; with room, the same command goes on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fault_counts import REPEATS, SEED

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


@pytest.fixture
def mounting(tmp_path: Path) -> list[str]:
    """What a command begins with to see a small disk at `tmp_path`; empty where nobody may mount one.

    Without a disk the limit of file sizes is tried alone.
    """
    prefix = [*ON_A_SMALL_DISK, MOUNT, "sh", str(tmp_path)]
    try:
        return [] if _run([*prefix, "true"]).returncode else prefix
    except FileNotFoundError:
        return []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["extract", "train"])
def test_a_command_without_room_goes_on_once_there_is_some(
    verb: str, mounting: list[str], tmp_path: Path
) -> None:
    manners = "limit,disk" if mounting else "limit"
    script = [sys.executable, str(SCRIPT), str(tmp_path), manners, verb, str(REPEATS), str(SEED)]
    done = _run([*mounting, *script])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["manner"] for each in found[:2]] == (manners.split(",") * 2)[:2]
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
