"""kill -9 wherever it hurts: the same command then ends with the same bytes as if nothing had been."""

import json
import signal
from collections.abc import Callable
from typing import Any

import killed_runs
import pytest
import random_kills
from fault_counts import REPEATS, SEED
from killed_runs import KILLS
from random_kills import VERBS

from forked import Forked


def ask(work: Callable[..., None], *arguments: object) -> Any:
    """What `work` prints, which forks and so wants a process without threads."""
    with Forked(work, *arguments) as process:
        code, out, err = process.ended(3600)
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def at_random(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = ask(
        random_kills.main, tmp_path_factory.mktemp("random"), REPEATS, SEED
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_kills_at_random_moments(at_random: dict[str, Any], verb: str) -> None:
    found = at_random[verb]
    told = f"seed {SEED}; killed after {', '.join(found['killed'])}"
    assert len(found["killed"]) == REPEATS, told
    assert found["compared"] > 0, told
    assert found["differing"] == [], told


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = ask(killed_runs.main, tmp_path_factory.mktemp("killed"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_a_killed_run_ends_as_one_that_nobody_killed(outcomes: dict[str, Any], name: str) -> None:
    found = outcomes[name]
    assert found["killed"] == -signal.SIGKILL
    assert found["again"] == 0, found["said"]
    assert found["differing"] == []
    assert "Traceback" not in found["said"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("middle of the first epoch", "Going on after step 2 of "),
        ("middle of the second epoch", "Going on after step 4 of "),
        ("a checkpoint is half written", "Going on after step 2 of "),
        ("a stage is no finished step", "features: done already"),
        ("a bundle is half written", "evaluate: done already"),
    ],
)
def test_the_second_run_says_where_it_goes_on(outcomes: dict[str, Any], name: str, line: str) -> None:
    assert line in outcomes[name]["said"]


def test_shards_that_were_finished_are_not_made_again(outcomes: dict[str, Any]) -> None:
    """Of two teachers, those before the third shard of either."""
    assert outcomes["a shard has no name"]["kept"] >= 4
