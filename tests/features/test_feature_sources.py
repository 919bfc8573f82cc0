"""Stored and online teachers give the same record of a batch."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from meddistill.data.dataset import SampleDataset
from meddistill.data.view_rule import ViewRule
from meddistill.errors import StoreError, TeacherError
from meddistill.features.extract import extract
from meddistill.features.mapping import MappedPiece, MappedRows
from meddistill.features.sources import OnlineTeachers, StoredTeachers
from meddistill.imaging import Geometry, ViewPolicy
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher

STUDENT = Geometry(8, 8, "squash", "bilinear")
POLICY = ViewPolicy(scale=(0.3, 0.6))


def teachers():
    return {
        "all": toy_teacher("all"),
        "some": toy_teacher("some", seed=1, dim=6, size=20, modalities=("ct", "mri")),
        "seeing": toy_teacher("seeing", kind=ToyImages, seed=2, dim=4),
        "none": toy_teacher("none", seed=3, modalities=("fundus",)),
    }


def batch_of(samples, rows, views, asked, rule):
    geometries = frozenset(teacher.card.input.geometry for teacher in asked.values())
    data = SampleDataset(samples, student=STUDENT, views=rule, teacher_geometries=geometries)
    return data.batch(rows, views)


def assert_same(stored, online, tolerance: float) -> None:
    assert list(stored) == list(online)
    for name in stored:
        assert torch.equal(stored[name].available, online[name].available)
        assert stored[name].logit_scale == online[name].logit_scale
        for output in ("image", "text"):
            one, two = getattr(stored[name], output), getattr(online[name], output)
            assert (one is None) == (two is None)
            if one is not None:
                assert one.dtype == two.dtype == torch.float32
                torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)
                assert (one[~stored[name].available] == 0).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("float32", 1e-6), ("int8", 0.06)])
def test_stored_equals_online(tmp_path: Path, precision: str, tolerance: float) -> None:
    samples, asked = toy_samples(tmp_path / "images", 21, captions=40), teachers()
    store = extract(tmp_path / "store", samples, asked, SMALL.model_copy(update={"precision": precision}))
    batch = batch_of(samples, [30, 0, 5, 5, 39, 17, 8], [0] * 7, asked, ViewRule())
    stored = StoredTeachers(store, samples, tuple(asked), device="cpu").outputs(batch)
    online = OnlineTeachers(asked, device="cpu").outputs(batch)
    assert_same(stored, online, tolerance)
    assert stored["some"].available.tolist() == [False, False, True, True, False, True, True]
    assert stored["seeing"].text is None
    assert not stored["none"].available.any()
    assert stored["none"].image.shape == (7, 8)


def test_stored_equals_online_for_consistent_views(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 21), teachers()
    options = SMALL.model_copy(update={"views": 3, "view_policy": POLICY, "precision": "float32"})
    store = extract(tmp_path / "store", samples, asked, options)
    rows, views = [4, 0, 20, 7], [2, 0, 1, 2]
    consistent = ViewRule(policy=POLICY, views=3, teacher="consistent")
    batch = batch_of(samples, rows, views, asked, consistent)
    stored = StoredTeachers(store, samples, tuple(asked), view="consistent")
    assert_same(stored.outputs(batch), OnlineTeachers(asked).outputs(batch), 1e-6)
    fixed = batch_of(samples, rows, views, asked, replace(consistent, teacher="fixed"))
    whole = StoredTeachers(store, samples, tuple(asked), view="fixed").outputs(fixed)
    assert_same(whole, OnlineTeachers(asked).outputs(fixed), 1e-6)
    assert not torch.equal(whole["all"].image, stored.outputs(batch)["all"].image)
    beyond = batch_of(samples, rows, [2, 0, 3, 1], asked, consistent)
    with pytest.raises(StoreError, match="must be among the 3 that the store holds; got view 3"):
        stored.outputs(beyond)


def test_outputs_can_stand_in_a_loss(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 9), {"all": toy_teacher("all")}
    store = extract(tmp_path / "store", samples, asked, SMALL)
    batch = batch_of(samples, [1, 2], [0, 0], asked, ViewRule())
    for source in (StoredTeachers(store, samples, ("all",)), OnlineTeachers(asked)):
        student = torch.ones(2, 8, requires_grad=True)
        (student * source.outputs(batch)["all"].image).sum().backward()
        assert student.grad is not None
        assert source.cards["all"].dims["image"] == 8


def test_samples_that_the_store_lacks_are_counted(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 9), {"all": toy_teacher("all")}
    store = extract(tmp_path / "store", samples.take(range(6)), asked, SMALL)
    changed = replace(samples, texts=("another caption", *samples.texts[1:]), table_hash="")
    with pytest.raises(
        StoreError, match=r"lacks the images of 3 and the captions of 4 of 9 rows.*meddistill features add"
    ):
        StoredTeachers(store, changed, ("all",))
    with pytest.raises(StoreError, match="which has: all; got 'other'"):
        StoredTeachers(store, samples.take(range(6)), ("other",))


def test_a_teacher_without_the_new_rows_is_told(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 9), teachers()
    extract(tmp_path / "store", samples.take(range(6)), asked, SMALL)
    store = extract(tmp_path / "store", samples, {"all": asked["all"]}, SMALL)
    StoredTeachers(store, samples, ("all",))
    StoredTeachers(store, samples.take(range(6)), ("some",))
    with pytest.raises(StoreError, match=r"'some' must have its image output .*; 3 of 9 are not there"):
        StoredTeachers(store, samples, ("all", "some"))
    assert store.missing("some") == {"image": 3, "text": 3}
    assert store.missing("all") == {}


def test_a_batch_without_the_teachers_raster_is_told(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 3)
    batch = batch_of(samples, [0], [0], {}, ViewRule())
    with pytest.raises(TeacherError, match="must hold a raster for teacher 'all'"):
        OnlineTeachers({"all": toy_teacher("all")}).outputs(batch)


def test_samples_without_captions_have_no_text_outputs(tmp_path: Path) -> None:
    samples = replace(toy_samples(tmp_path / "images", 5), texts=None, table_hash="")
    asked = {"all": toy_teacher("all")}
    store = extract(tmp_path / "store", samples, asked, SMALL)
    batch = batch_of(samples, [3, 1], [0, 0], asked, ViewRule())
    stored = StoredTeachers(store, samples, ("all",)).outputs(batch)
    assert stored["all"].text is None
    assert_same(stored, OnlineTeachers(asked).outputs(batch), 1e-3)


def test_gathers_over_many_shards_cost_about_as_much_as_over_one_file(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((64 * 256, 256)).astype(np.float16)
    pieces = []
    for number, part in enumerate(np.split(values, 64)):
        (tmp_path / f"{number}").write_bytes(bytes(4096) + part.tobytes())
        pieces.append(MappedPiece(tmp_path / f"{number}", len(part), 4096))
    (tmp_path / "all").write_bytes(values.tobytes())
    bare = np.memmap(tmp_path / "all", dtype=np.float16, mode="r", shape=values.shape)
    mapped = MappedRows(pieces, shape=(256,), dtype="float16")
    batches = np.random.default_rng(1).integers(0, len(values), (50, 256))

    def seconds(gather) -> float:
        start = time.perf_counter()
        for rows in batches:
            gather(rows)
        return time.perf_counter() - start

    ratios = [seconds(mapped.take) / seconds(lambda rows: bare[rows]) for _ in range(9)]
    assert sorted(ratios)[4] < 4
