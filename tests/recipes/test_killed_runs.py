"""kill -9 wherever it hurts: the same command then ends with the same bytes as if nothing had been."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from killed_runs import KILLS

from recipe_data import environment

pytestmark = [pytest.mark.xdist_group("killed_runs"), pytest.mark.slow]
OUTSIDE = "from outside"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [*KILLS, OUTSIDE])
def test_a_killed_run_ends_as_one_that_nobody_killed(outcomes: dict[str, Any], name: str) -> None:
    found = outcomes[name]
    assert found["killed"] == -signal.SIGKILL
    assert found["again"] == 0, found["said"]
    assert found["compared"] > 5
    assert found["differing"] == []
    assert "Traceback" not in found["said"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("middle of the first epoch", "Going on after step 2 of "),
        ("middle of the second epoch", "Going on after step 6 of "),
        ("a checkpoint is half written", "Going on after step 2 of "),
        (OUTSIDE, "Going on after step "),
        ("a stage is no finished step", "features: done already"),
        ("a tower is exported", "evaluate: done already"),
    ],
)
def test_the_second_run_says_where_it_goes_on(outcomes: dict[str, Any], name: str, line: str) -> None:
    assert line in outcomes[name]["said"]


def test_a_shard_that_was_finished_is_not_made_again(outcomes: dict[str, Any]) -> None:
    """The task tells how many images were left: 82 less one or two shards of 16."""
    lines = outcomes["a shard has no name"]["said"].splitlines()
    (line,) = [line for line in lines if line.startswith("teachers' images: ")]
    assert "82 images" in line
