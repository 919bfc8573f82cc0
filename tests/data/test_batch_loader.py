"""Batches in the order of a plan: workers, processes, starting anywhere, images that break on the way."""

import shutil
import time

import numpy as np
import pytest
import torch
from batch_checks import STUDENT, TALL, WIDE, assert_same, by_hand, joined

from meddistill.data import rasters
from meddistill.data.config import TableConfig
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import image_keys
from meddistill.data.loader import ImageBatches, make_loader
from meddistill.data.plan import EpochPlan
from meddistill.data.table import read_table
from meddistill.data.view_rule import ViewRule
from meddistill.errors import ImageError
from meddistill.imaging import ViewPolicy, decode

POLICY = ViewPolicy()
FRESH = ViewRule(policy=POLICY)


@pytest.fixture(scope="module")
def data(pairs):
    tokens = torch.arange(40, dtype=torch.int32).reshape(20, 2)
    return SampleDataset(
        pairs, student=STUDENT, tokens=tokens, views=FRESH, teacher_geometries=frozenset({TALL})
    )


def plan(**changed):
    return EpochPlan(**{"rows": 20, "batch_size": 6, "seed": 4} | changed)


def same(batches, others):
    for one, other in zip(batches, others, strict=True):
        assert_same(one, other)


def test_batches_follow_the_plan(data):
    loader = make_loader(data, plan=plan())
    assert loader.steps == 3
    assert loader.ids == data.samples.ids
    orders = []
    for epoch in (0, 1):
        batches = list(loader.batches(epoch=epoch))
        assert [batch.samples.tolist() for batch in batches] == plan().batches(epoch)
        shown = data.views.student_view(seed=plan().seed, epoch=epoch, image_key="any")
        assert {int(view) for batch in batches for view in batch.views} == {shown}
        orders.append([batch.samples.tolist() for batch in batches])
    assert orders[0] != orders[1]
    assert np.array_equal(
        batches[1].rasters[2].numpy(), by_hand(data, int(batches[1].samples[2]), shown, STUDENT)
    )


def test_resuming_gives_exactly_the_batches_that_were_left(data):
    whole = list(make_loader(data, plan=plan()).batches(epoch=3))
    for start in range(4):
        fresh = SampleDataset(
            data.samples,
            student=STUDENT,
            tokens=data.tokens,
            views=FRESH,
            teacher_geometries=frozenset({TALL}),
        )
        same(make_loader(fresh, plan=plan()).batches(epoch=3, start=start), whole[start:])


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_one_global_batch(data, processes):
    whole = make_loader(data, plan=plan()).batches(epoch=1)
    loaders = [
        make_loader(data, plan=plan(processes=processes, process=process)) for process in range(processes)
    ]
    shares = zip(*(loader.batches(epoch=1) for loader in loaders), strict=True)
    same((joined(list(parts)) for parts in shares), whole)


def test_an_epoch_can_be_left_and_another_begun(data):
    loader = make_loader(data, plan=plan())
    expected = list(make_loader(data, plan=plan()).batches(epoch=1))
    abandoned = loader.batches(epoch=0)
    next(abandoned)
    same(loader.batches(epoch=1), expected)


def test_the_fingerprint_knows_the_order_and_not_who_prepares_it(data):
    known = make_loader(data, plan=plan()).fingerprint
    assert make_loader(data, plan=plan(processes=3, process=2)).fingerprint == known
    others = [plan(seed=5), plan(batch_size=5)]
    fingerprints = {make_loader(data, plan=each).fingerprint for each in others}
    assert len(fingerprints | {known}) == 3
    with pytest.raises(ValueError, match="`plan` must be for 20 rows; got 19"):
        make_loader(data, plan=plan(rows=19))


def test_preparing_ahead_is_bounded(data, monkeypatch):
    prepared = []
    monkeypatch.setattr(data, "prepare", lambda request: prepared.append(1) or data.batch(*request))
    batches = make_loader(data, plan=plan(batch_size=1)).batches(epoch=0)
    for _ in range(4):
        next(batches)
    time.sleep(0.3)
    batches.close()
    assert 4 <= len(prepared) <= 6, "two beyond those that were used"


@pytest.fixture
def own_folder(phantom, tmp_path):
    """A copy of the images that a test may spoil."""
    shutil.copytree(phantom, tmp_path / "set")
    return read_table(TableConfig(table="pairs.csv", text="text"), base=tmp_path / "set")


def spoil(samples, row):
    path = samples.refs[row].path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path, whole


def test_an_image_that_breaks_in_the_middle_is_named_with_its_row(own_folder):
    data = SampleDataset(own_folder.take([*range(1, 20), 0]), student=STUDENT, cache_bytes=0)
    loader = make_loader(data, plan=plan())
    order = plan().batches(0)
    row = order[1][3]
    path, whole = spoil(data.samples, row)
    batches = loader.batches(epoch=0)
    assert next(batches).samples.tolist() == order[0]
    with pytest.raises(ImageError) as caught:
        list(batches)
    assert str(caught.value).startswith(f"row {data.samples.rows[row]}: `{path}` must be a whole PNG")
    path.write_bytes(whole)
    assert len(list(loader.batches(epoch=0))) == 3


def test_worker_processes_give_the_same_batches_and_the_same_errors(own_folder):
    data = SampleDataset(
        own_folder,
        student=STUDENT,
        views=ViewRule(policy=POLICY, teacher="consistent"),
        teacher_geometries=frozenset({TALL, WIDE}),
        cache_bytes=0,
    )
    state = torch.get_rng_state()
    alone, helped = (make_loader(data, plan=plan(), workers=workers) for workers in (0, 2))
    assert alone.fingerprint == helped.fingerprint
    try:
        same(helped.batches(epoch=0), alone.batches(epoch=0))
        next(helped.batches(epoch=2))
        same(helped.batches(epoch=1, start=1), alone.batches(epoch=1, start=1))
        row = plan().batches(5)[1][0]
        path, whole = spoil(own_folder, row)
        messages = []
        for loader in (alone, helped):
            with pytest.raises(ImageError) as caught:
                list(loader.batches(epoch=5))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
        assert messages[0].startswith(f"row {row + 1}: `{path}`")
        path.write_bytes(whole)
        same(helped.batches(epoch=5), alone.batches(epoch=5))
    finally:
        helped.close()
    assert torch.equal(torch.get_rng_state(), state), "nobody else's draws were moved"


def test_image_batches_go_through_all_images_in_order(pairs, monkeypatch):
    seen = []
    monkeypatch.setattr(rasters, "decode", lambda *ref: seen.append(ref) or decode(*ref))
    batches = ImageBatches(pairs, [TALL, WIDE, TALL], batch_size=8)
    assert len(batches) == 3
    reference = SampleDataset(pairs, student=TALL)
    found = list(batches)
    assert len(seen) == 20, "both geometries come from one decode"
    assert [rows.tolist() for rows, _ in found] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    for rows, stacks in found:
        assert set(stacks) == {TALL, WIDE}
        for shape, stack in stacks.items():
            assert stack.dtype == torch.uint8
            for place, row in enumerate(rows):
                assert np.array_equal(stack[place].numpy(), by_hand(reference, row, 0, shape))
    with pytest.raises(ValueError, match="`batch_size` must be at least 1; got 0"):
        ImageBatches(pairs, [TALL], batch_size=0)


def test_image_batches_of_a_view_are_those_of_training(pairs, data):
    keys = image_keys(pairs)
    options = {"batch_size": 20, "policy": POLICY, "view": 3}
    expected = data.batch(range(20), [3] * 20).rasters
    for known in (None, keys):
        ((_, stacks),) = ImageBatches(pairs, [STUDENT], keys=known, **options)
        assert torch.equal(stacks[STUDENT], expected)


def test_image_batches_are_the_same_from_another_process(pairs):
    alone, helped = (
        list(ImageBatches(pairs.take(range(6)), [TALL, STUDENT], batch_size=6, workers=workers))
        for workers in (0, 1)
    )
    for (rows, stacks), (other_rows, other_stacks) in zip(alone, helped, strict=True):
        assert np.array_equal(rows, other_rows)
        assert all(torch.equal(stacks[shape], other_stacks[shape]) for shape in (TALL, STUDENT))
