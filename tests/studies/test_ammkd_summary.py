"""The tables of the study of AMMKD from ranks whose recalls are known."""

from pathlib import Path

import numpy as np
import pytest
from studies.ammkd_arms import ALONE, BOUNDS, FIRST, UNIFORM, bounded, disagreeing, repeated
from studies.ammkd_summary import best_bound, load_runs, summarize, teacher_part
from studies.rank_tables import Facts, RankTable

IMAGES, CAPTIONS = 40, 5


def ranks(right: float, *, cost: int = 100) -> RankTable:
    """The first `right` of the images and of their captions are found first, the others last."""
    found = np.where(np.arange(IMAGES) < right * IMAGES, 1.0, 40.0)
    images = np.arange(IMAGES)
    return RankTable(
        facts=Facts(recipe="abc", parameters=10, multiply_adds=cost),
        images=np.concatenate([images, np.repeat(images, CAPTIONS)]),
        directions=np.repeat([0, 1], [IMAGES, IMAGES * CAPTIONS]),
        ranks=np.concatenate([found, np.repeat(found, CAPTIONS)]),
        shares=np.ones(IMAGES * (1 + CAPTIONS)),
    )


def test_a_table_on_disk_has_the_same_recalls(tmp_path: Path) -> None:
    table = ranks(0.5)
    shares = table.shares.copy()
    shares[-1] = 1 / 3
    shared = RankTable(table.facts, table.images, table.directions, table.ranks, shares)
    shared.save(tmp_path / "table.csv")
    again = RankTable.load(tmp_path / "table.csv")
    assert again.facts == shared.facts
    assert again.recall_sum == pytest.approx(shared.recall_sum, abs=1e-4)
    assert again.recall_sum[0] != pytest.approx(table.recall_sum[0], abs=1e-2)


def test_a_table_of_a_thousand_images_stays_small(tmp_path: Path) -> None:
    count = 1000
    images = np.concatenate([np.arange(count), np.repeat(np.arange(count), CAPTIONS)])
    directions = np.repeat([0, 1], [count, count * CAPTIONS])
    numbers = np.random.default_rng(0).integers(1, 5000, len(images)).astype(float)
    RankTable(ranks(1).facts, images, directions, numbers, np.ones(len(images))).save(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").stat().st_size <= 50_000


def test_the_recall_sum_is_of_six_recalls_in_per_cent() -> None:
    assert ranks(0.5).recall_sum[0] == pytest.approx(300)
    assert ranks(1.0).recall_sum[0] == pytest.approx(600)
    assert np.std(ranks(0.5).recall_sum[1:]) > 10


def test_validation_chooses_the_bound_once_all_are_there(tmp_path: Path) -> None:
    for bound, right in zip(BOUNDS, (0.4, 0.6, 0.5), strict=True):
        assert best_bound(load_runs(tmp_path), 0) is None
        ranks(right).save(tmp_path / f"{bounded(bound)}_seed0.csv")
    assert best_bound(load_runs(tmp_path), 0) == BOUNDS[1]


@pytest.mark.parametrize(("teacher", "void"), [(0.9, False), (0.5, True), (0.3, True)])
def test_teachers_that_know_no_more_than_the_student_make_the_study_void(teacher: float, void: bool) -> None:
    runs = {teacher_part(FIRST): {0: ranks(teacher)}, ALONE: {0: ranks(0.5), 1: ranks(0.5)}}
    assert ("Void" in summarize(runs, bound=None)) is void


def test_leads_are_paired_and_shares_are_of_the_better_teacher() -> None:
    wrong = f"disagreeing_{UNIFORM}"
    runs = {
        teacher_part(FIRST): {0: ranks(0.8, cost=400)},
        UNIFORM: {0: ranks(0.6), 1: ranks(0.6)},
        bounded(0.8): {0: ranks(0.6), 1: ranks(0.7)},
        wrong: {0: ranks(0.4)},
    }
    text = summarize(runs, bound=0.8)
    rows = {tuple(row.strip("| ").split(" | ")[:2]): row for row in text.splitlines() if row.startswith("|")}
    assert "+30.0 (" in rows[bounded(0.8), UNIFORM]
    (share,) = [row for (name, second), row in rows.items() if name == UNIFORM and "%" in second]
    assert "75.0 (" in share
    assert share.endswith("| 0.25 |")


def test_what_a_target_stands_on_runs_with_every_seed() -> None:
    names = repeated(0.8)
    assert {ALONE, UNIFORM, bounded(0.8), *disagreeing(0.8)} <= set(names)
    assert bounded(0.6) not in names
