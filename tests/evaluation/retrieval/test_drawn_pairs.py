"""A gallery of some pairs of a table: which, how many, and that the results say so."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel, suite, table, write_world
from pydantic import ValidationError

from meddistill.data.keys import text_keys
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.retrieval.task import Retrieval
from meddistill.progress import SilentProgress

N = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve test pairs, of which one is written twice, and the same table upside down."""
    folder = write_world(tmp_path_factory.mktemp("pairs"))
    with (folder / "table.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    rows.append(next(row for row in rows if row["split"] == "test"))
    for name, ordered in (("table.csv", rows), ("upside_down.csv", rows[::-1])):
        with (folder / name).open("w", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(ordered)
    return folder


def _task(world: Path, pairs: dict[str, int] | None, **more: Any) -> Retrieval:
    config = suite(
        tasks=[{"name": "search", "kind": "retrieval", "table": "test", "pairs": pairs}],
        tables={"test": table("test", **more)},
    )
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    task = build_task(config.tasks[0], parts, SampleNames(world, examples=True))
    assert isinstance(task, Retrieval)
    return task


def _pairs(task: Retrieval) -> set[tuple[str, str]]:
    return set(zip(task.tested.keys, text_keys(task.tested.samples), strict=True))


def test_so_many_distinct_pairs_whatever_the_order_of_the_table(world: Path) -> None:
    task = _task(world, {"n": N})
    assert len(_pairs(task)) == N
    assert _pairs(_task(world, {"n": N}, table="upside_down.csv")) == _pairs(task)
    assert _pairs(_task(world, {"n": N - 2})) < _pairs(task)
    draws = {frozenset(_pairs(_task(world, {"n": N, "seed": seed}))) for seed in range(6)}
    assert len(draws) > 3


def test_the_gallery_is_no_larger_and_the_facts_say_so(world: Path, tmp_path: Path) -> None:
    task = _task(world, {"n": N, "seed": 3})
    found = task.predict(Embeddings(ColourModel(), folder=tmp_path, progress=SilentProgress()))
    assert (found.images, found.texts) == (N, task.facts()["texts"])
    assert found.ranks.max() <= N
    facts = task.facts()
    assert (facts["images"], facts["drawn_from"], facts["draw_seed"]) == (N, 12, 3)
    assert facts["warnings"] == []
    assert set(found.rows.tolist()) <= set(task.tested.samples.rows)


def test_fewer_pairs_than_asked_for_are_all_taken_and_told(world: Path) -> None:
    task = _task(world, {})
    assert len(task.tested) == 13
    assert task.facts()["warnings"] == ["fewer distinct pairs than the 2000 to draw: all 12 are the gallery"]


def test_draws_are_part_of_what_predictions_depend_on(world: Path) -> None:
    tasks = [_task(world, pairs) for pairs in (None, {"n": N}, {"n": N, "seed": 1}, {"n": N + 1})]
    assert len({task.digest() for task in tasks}) == len({task.sha256() for task in tasks}) == 4
    assert "drawn_from" not in tasks[0].facts()


def test_one_pair_is_no_gallery(world: Path) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        _task(world, {"n": 1})


def test_the_whole_way_with_groups(world: Path, tmp_path: Path) -> None:
    """Rows, patients and groups are those of the drawn pairs; a small gallery is easier."""
    drawn = {"kind": "retrieval", "table": "test", "pairs": {"n": N}, "groups": {"modality": {}}}
    tasks = [{"name": "whole", "kind": "retrieval", "table": "test"}, {"name": "drawn", **drawn}]
    config = suite(tasks=tasks, min_group_size=1)
    found = evaluate([ColourModel(noise=0.5)], config, base=world, folder=tmp_path, progress=SilentProgress())
    facts = {each.name: each for each in found.tasks}
    assert (facts["whole"].n, facts["drawn"].facts["images"]) == (13, N)
    assert facts["drawn"].n == facts["drawn"].facts["pairs"] <= N + 1
    ranks = {
        task: next(row.value for row in found.of(task=task) if row.metric == "image_to_text_median_rank")
        for task in facts
    }
    assert ranks["drawn"] <= ranks["whole"]
    assert np.isfinite([row.value for row in found.groups if row.value is not None]).all()
    assert {row.label for row in found.groups} <= {"xray", "ct"}
