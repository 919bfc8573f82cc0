"""Which view is shown in which epoch, and that it is the same one however it is asked for."""

import numpy as np
import pytest
import torch
from batch_checks import STUDENT, TALL, assert_same, by_hand

from meddistill.data.dataset import SampleDataset
from meddistill.data.view_rule import ViewRule
from meddistill.imaging import ViewPolicy

POLICY = ViewPolicy()
STILL = ViewPolicy(scale=(1, 1), ratio=(1, 1), brightness=0, contrast=0, gamma=0)


def seen(rule, epochs=range(6), seed=0, key="k"):
    return [rule.student_view(seed=seed, epoch=epoch, image_key=key) for epoch in epochs]


def test_fresh_views_never_repeat_and_never_are_the_whole_image():
    rule = ViewRule(policy=POLICY)
    views = seen(rule, epochs=range(500))
    assert min(views) >= 1
    assert len(set(views)) == 500
    assert max(views) < 2**63, "views travel as int64"
    assert not set(views) & set(seen(rule, epochs=range(500), seed=9)), "another seed, other views"
    assert seen(rule, epochs=[4]) == [views[4]], "an epoch that is resumed needs no epoch before it"


@pytest.mark.parametrize("rule", [ViewRule(), ViewRule(policy=POLICY, views=1), ViewRule(views=4)])
def test_one_view_or_no_policy_is_the_whole_image(rule):
    assert rule.whole_images_only
    assert seen(rule) == [0] * 6


def test_a_number_of_views_is_drawn_by_seed_epoch_and_image():
    rule = ViewRule(policy=POLICY, views=4)
    drawn = np.array(seen(rule, epochs=range(2000)))
    assert np.bincount(drawn, minlength=4).min() > 420
    assert set(drawn) == {0, 1, 2, 3}
    assert seen(rule) == [1, 1, 1, 3, 2, 2], "on every machine"
    assert seen(rule, epochs=range(40), seed=1) != seen(rule, epochs=range(40))
    assert seen(rule, epochs=range(40), key="l") != seen(rule, epochs=range(40))


def test_teachers_see_the_whole_image_or_the_students_view():
    assert [ViewRule(policy=POLICY, teacher="fixed").teacher_view(k) for k in (0, 1, 5)] == [0, 0, 0]
    assert [ViewRule(policy=POLICY, teacher="consistent").teacher_view(k) for k in (0, 1, 5)] == [0, 1, 5]


@pytest.mark.parametrize("views", [0, -1])
def test_no_views_are_refused(views):
    with pytest.raises(ValueError, match="`views` must be 'fresh' or at least 1"):
        ViewRule(policy=POLICY, views=views)


@pytest.mark.parametrize("teacher", ["fixed", "consistent"])
def test_rasters_show_the_views_they_name(pairs, teacher):
    rule = ViewRule(policy=POLICY, teacher=teacher)
    dataset = SampleDataset(pairs, student=STUDENT, views=rule, teacher_geometries=frozenset({TALL, STUDENT}))
    rows, views = [7, 2, 7, 11], [3, 0, 1, 3]
    batch = dataset.batch(rows, views)
    assert batch.views.tolist() == views
    for place, (row, k) in enumerate(zip(rows, views, strict=True)):
        shown = k if teacher == "consistent" else 0
        assert np.array_equal(batch.rasters[place].numpy(), by_hand(dataset, row, k, STUDENT))
        for shape in (TALL, STUDENT):
            raster = batch.teacher_rasters[shape][place].numpy()
            assert np.array_equal(raster, by_hand(dataset, row, shown, shape))
    same = torch.equal(batch.rasters, batch.teacher_rasters[STUDENT])
    assert same == (teacher == "consistent")


def test_views_do_not_depend_on_what_was_shown_before(pairs):
    rule = ViewRule(policy=POLICY)
    one = SampleDataset(pairs, student=STUDENT, views=rule)
    rows = [4, 9, 1]
    for epoch in range(3):
        one.batch(rows[::-1], one.student_views(rows, seed=0, epoch=epoch))
    other = SampleDataset(pairs.take([9, 1, 4]), student=STUDENT, views=rule, cache_bytes=0)
    views = one.student_views(rows, seed=0, epoch=2)
    assert views == [rule.student_view(seed=0, epoch=2, image_key="any")] * 3
    assert torch.equal(one.batch(rows, views).rasters, other.batch([2, 0, 1], views).rasters)
    assert not torch.equal(one.batch(rows, views).rasters, one.batch(rows, [4, 4, 4]).rasters)


def test_rows_of_one_image_share_their_view(pairs):
    twice = pairs.take([5, 6, 5])
    dataset = SampleDataset(twice, student=STUDENT, views=ViewRule(policy=POLICY, views=16))
    for epoch in range(5):
        first, _, third = dataset.student_views([0, 1, 2], seed=3, epoch=epoch)
        assert first == third


def test_another_policy_gives_other_views_and_the_same_whole_image(pairs):
    changed = POLICY.model_copy(update={"gamma": 0.5})
    one, other = (
        SampleDataset(pairs, student=STUDENT, views=ViewRule(policy=policy)) for policy in (POLICY, changed)
    )
    assert not torch.equal(one.batch([0, 1], [2, 2]).rasters, other.batch([0, 1], [2, 2]).rasters)
    assert_same(one.batch([0, 1], [0, 0]), other.batch([0, 1], [0, 0]))


def test_nothing_is_mirrored_unless_asked(pairs):
    rows = list(range(10))
    whole = SampleDataset(pairs, student=STUDENT).batch(rows, [0] * 10).rasters
    still = SampleDataset(pairs, student=STUDENT, views=ViewRule(policy=STILL))
    flipped = SampleDataset(
        pairs,
        student=STUDENT,
        views=ViewRule(policy=STILL.model_copy(update={"horizontal_flip": 0.5})),
    )
    mirrored = 0
    for epoch in range(8):
        views = still.student_views(rows, seed=0, epoch=epoch)
        assert torch.equal(still.batch(rows, views).rasters, whole)
        changed = flipped.batch(rows, views).rasters.ne(whole).flatten(1).any(1)
        mirrored += int(changed.sum())
    assert 20 < mirrored < 60


def test_a_view_without_a_policy_is_refused(pairs):
    with pytest.raises(ValueError, match="a view policy is needed for view 1"):
        SampleDataset(pairs, student=STUDENT).batch([0], [1])
