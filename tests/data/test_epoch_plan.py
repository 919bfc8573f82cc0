"""The order of rows: a function of seed, epoch and step."""

import numpy as np
import pytest

from meddistill.data.plan import EpochPlan
from meddistill.errors import ConfigError


def flat(batches):
    return [row for batch in batches for row in batch]


def test_an_epoch_is_a_permutation_of_all_rows():
    batches = EpochPlan(rows=60, batch_size=12, seed=0).batches(4)
    assert [len(batch) for batch in batches] == [12] * 5
    assert sorted(flat(batches)) == list(range(60))
    assert flat(batches) != sorted(flat(batches))


def test_epochs_and_seeds_differ_and_repeat():
    orders = [
        flat(EpochPlan(rows=60, batch_size=12, seed=seed).batches(epoch))
        for seed in (0, 1, 2)
        for epoch in (0, 1, 2)
    ]
    assert len({tuple(order) for order in orders}) == 9, "(seed, epoch) and (epoch, seed) too"
    assert flat(EpochPlan(rows=60, batch_size=12, seed=2).batches(1)) == orders[7]


def test_the_order_is_this_on_every_machine():
    assert EpochPlan(rows=8, batch_size=4, seed=3).batches(2) == [[1, 7, 4, 0], [2, 6, 3, 5]]


def test_a_partial_batch_sits_out_and_others_do_in_the_next_epoch():
    plan = EpochPlan(rows=31, batch_size=8, seed=0)
    assert plan.steps == 3
    absent = [set(range(31)) - set(flat(plan.batches(epoch))) for epoch in range(30)]
    assert {len(each) for each in absent} == {7}
    assert set.intersection(*absent) == set()
    assert set.union(*absent) == set(range(31))


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_shares_are_disjoint_and_together_the_global_batch(processes):
    whole = EpochPlan(rows=31, batch_size=6, seed=5)
    shares = [
        EpochPlan(rows=31, batch_size=6, seed=5, processes=processes, process=process).batches(1, 2)
        for process in range(processes)
    ]
    for batch, *parts in zip(whole.batches(1, 2), *shares, strict=True):
        assert {len(part) for part in parts} == {6 // processes}
        assert flat(parts) == batch, "and in its order"


def test_any_batch_can_be_the_first():
    plan = EpochPlan(rows=50, batch_size=8, seed=1, processes=2, process=1)
    batches = plan.batches(7)
    for start in range(plan.steps + 1):
        assert plan.batches(7, start) == batches[start:]
    assert plan.batches(7, plan.steps) == []
    for start in (-1, plan.steps + 1):
        with pytest.raises(ValueError, match="start_step"):
            plan.batches(7, start)


def test_rows_are_spread_over_batches_by_chance():
    plan = EpochPlan(rows=100, batch_size=50, seed=0)
    firsts = np.zeros(100)
    for epoch in range(400):
        firsts[plan.batches(epoch)[0]] += 1
    assert firsts.min() > 150
    assert firsts.max() < 250


def test_impossible_batches_are_refused_together():
    with pytest.raises(ConfigError) as caught:
        EpochPlan(rows=10, batch_size=11, seed=0, processes=2)
    assert caught.value.mistakes == (
        "`batch_size` must be from 1 to the rows; got 11 for 10 rows. Lower it or add rows.",
        "`batch_size` must be a multiple of the processes; got 11 for 2. It counts the rows of all "
        "processes together.",
    )
    with pytest.raises(ConfigError, match="got 0 for 10 rows"):
        EpochPlan(rows=10, batch_size=0, seed=0)
    for wrong in ({"process": 2}, {"process": -1}, {"seed": -1}):
        with pytest.raises(ValueError, match="`process` must be in"):
            EpochPlan(**{"rows": 10, "batch_size": 4, "seed": 0, "processes": 2} | wrong)
