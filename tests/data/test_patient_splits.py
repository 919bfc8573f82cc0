"""Splits by patient: whole patients, stable under growth, leaks refused without naming anybody."""

import collections
import random

import numpy as np
import pytest
from table_files import paint, paint_all, read, write_csv

from meddistill.data.samples import Samples
from meddistill.data.splits import check_leakage, label_fraction, split_by_patient
from meddistill.errors import ConfigError, TableError
from meddistill.imaging import ImageRef

FRACTIONS = {"train": 0.7, "val": 0.2, "test": 0.1}


def people(patients):
    """Samples of these patients; the images are never opened."""
    refs = tuple(ImageRef(path) for path in [f"{i}.png" for i in range(len(patients))])
    return Samples(refs=refs, patients=tuple(patients))


def crowd(count, images=3):
    return [f"patient-{i % count}" for i in range(count * images)]


def split_of(samples, found):
    return {samples.patients[row]: name for name, rows in found.items() for row in rows}


def test_splits_hold_whole_patients_and_every_row_once():
    samples = people(crowd(1000))
    found = split_by_patient(samples, FRACTIONS, seed=3)
    assert list(found) == list(FRACTIONS)
    assert np.array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(3000))
    owners = [{samples.patients[row] for row in rows} for rows in found.values()]
    assert sum(len(each) for each in owners) == 1000
    for name, patients in zip(FRACTIONS, owners, strict=True):
        assert abs(len(patients) / 1000 - FRACTIONS[name]) < 0.04


def test_adding_and_shuffling_rows_moves_nobody():
    before = people(crowd(60))
    grown = [*crowd(200, images=1), *crowd(60)]
    random.Random(1).shuffle(grown)
    after = people(grown)
    old = split_of(before, split_by_patient(before, FRACTIONS, seed=5))
    new = split_of(after, split_by_patient(after, FRACTIONS, seed=5))
    assert len(new) == 200
    assert {patient: new[patient] for patient in old} == old


def test_splits_are_these_on_every_machine():
    samples = people([f"p{i}" for i in range(12)])
    found = split_by_patient(samples, {"train": 0.5, "test": 0.5}, seed=0)
    assert found["test"].tolist() == [4, 5, 9, 10, 11]


def test_seeds_give_other_splits():
    samples = people(crowd(100))
    one, other = (split_of(samples, split_by_patient(samples, FRACTIONS, seed=seed)) for seed in (0, 1))
    assert sum(one[patient] != other[patient] for patient in one) > 20


@pytest.mark.parametrize(
    "fractions",
    [{}, {"a": 0.5, "b": 0.4}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}, {"a": 2.0}, {"a": float("nan")}],
)
def test_fractions_must_be_a_partition(fractions):
    with pytest.raises(ConfigError, match="`fractions` must be positive and sum to 1"):
        split_by_patient(people(["a", "b"]), fractions, seed=0)


def test_a_split_without_patients_is_refused():
    with pytest.raises(
        ConfigError, match=r"`fractions\.\w+` must be enough for one patient; got none of 1\."
    ):
        split_by_patient(people(["only"] * 9), {"train": 0.5, "test": 0.5}, seed=0)


@pytest.fixture
def leaking(tmp_path):
    """Rows 2 and 5 are one patient, rows 3 and 6 are copies of one image under two names."""
    paths = paint_all(tmp_path, 5)
    paint(tmp_path / "images/copy.png", 2)
    people = ["doe^john", "doe^jane", "roe^rick", "poe^paul", "doe^jane", "low^lisa"]
    splits = ["train"] * 3 + ["test"] * 3
    cells = zip([*paths, "images/copy.png"], people, splits, strict=True)
    return write_csv(
        tmp_path / "t.csv", [{"image": path, "who": who, "split": split} for path, who, split in cells]
    )


def parts(table, **named):
    return {name: read(table, where={"split": name}, **named) for name in ("train", "test")}


def test_leaks_are_told_by_row_and_never_by_patient(leaking):
    with pytest.raises(TableError) as caught:
        check_leakage(parts(leaking, patient="who"))
    assert caught.value.mistakes == (
        "`train` and `test` must not share patients; 1 patient is in both "
        "(row 2 of `train` and row 5 of `test`). Split by patient.",
        "`train` and `test` must not share images; 1 image is in both "
        "(row 3 of `train` and row 6 of `test`). Split by patient.",
    )
    for part in ("doe", "jane", "roe", "low", "lisa"):
        assert part not in str(caught.value)


def test_copies_are_found_without_a_column_of_patients(leaking):
    with pytest.raises(TableError) as caught:
        check_leakage(parts(leaking))
    (line,) = caught.value.mistakes
    assert "must not share images" in line


def test_images_without_patients_are_told_once(leaking):
    samples = read(leaking)
    with pytest.raises(TableError) as caught:
        check_leakage({"a": samples.take([0, 1]), "b": samples.take([1, 2])})
    (line,) = caught.value.mistakes
    assert "1 image is in both (row 2 of `a` and row 2 of `b`)" in line


def test_keys_that_are_known_are_used_and_not_computed_again():
    named = {"a": people(["p", "q"]), "b": people(["r"]), "c": people(["s", "t", "r"])}
    keys = {"a": ("1", "2"), "b": ("3",), "c": ("4", "5", "6")}
    with pytest.raises(TableError) as caught:
        check_leakage(named, image_keys=keys)
    (line,) = caught.value.mistakes
    assert line.startswith(
        "`b` and `c` must not share patients; 1 patient is in both (row 1 of `b` and row 3 of"
    )
    check_leakage({"a": named["a"], "b": named["b"]}, image_keys=keys)
    with pytest.raises(TableError, match="`a` and `b` must not share images"):
        check_leakage({"a": named["a"], "b": named["b"]}, image_keys=keys | {"b": ("2",)})


def test_many_shared_rows_are_counted():
    named = {"a": people(crowd(7, images=1)), "b": people(crowd(7, images=2))}
    keys = {"a": [f"a{i}" for i in range(7)], "b": [f"b{i}" for i in range(14)]}
    with pytest.raises(TableError) as caught:
        check_leakage(named, image_keys=keys)
    rows = "rows 1, 2, 3, 4, 5 and {} more of `{}`"
    assert f"7 patients are in both ({rows.format(2, 'a')} and {rows.format(9, 'b')})" in str(caught.value)


def test_split_by_patient_does_not_leak(leaking):
    whole = read(leaking, patient="who").take([0, 1, 2, 3, 4])
    found = split_by_patient(whole, {"train": 0.5, "test": 0.5}, seed=2)
    check_leakage({name: whole.take(rows) for name, rows in found.items()})


def labelled(count):
    patients = crowd(count, images=2)
    labels = ["common" if int(name.split("-")[1]) % 10 else "rare" for name in patients]
    return people(patients), labels


def test_fractions_are_nested_stratified_and_whole():
    samples, labels = labelled(200)
    before = np.array([], dtype=np.int64)
    for fraction in (0.01, 0.1, 0.25, 1.0):
        rows = label_fraction(samples, labels, fraction, seed=2)
        assert np.array_equal(rows, np.unique(rows))
        assert set(before) <= set(rows)
        images = collections.Counter(samples.patients[row] for row in rows)
        assert set(images.values()) == {2}, "patients are taken whole"
        counts = collections.Counter(labels[row] for row in rows)
        assert counts["common"] == 2 * np.ceil(fraction * 180)
        assert counts["rare"] == 2 * np.ceil(fraction * 20)
        before = rows
    assert len(before) == 400


def test_a_fraction_is_drawn_by_seed_and_patient():
    samples, labels = labelled(100)
    rows = label_fraction(samples, labels, 0.2, seed=0)
    assert not np.array_equal(rows, label_fraction(samples, labels, 0.2, seed=1))
    turned = label_fraction(samples.take(range(199, -1, -1)), labels[::-1], 0.2, seed=0)
    assert np.array_equal(np.sort(199 - turned), rows)


def test_every_label_is_in_the_smallest_fraction():
    patients = ["a", "a", "b", "c", "d", "e"]
    labels = ["x", "y", "y", "y", "z", "z"]
    rows = label_fraction(people(patients), labels, 0.01, seed=0)
    assert {labels[row] for row in rows} == {"x", "y", "z"}


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_fractions_of_labels_are_shares(fraction):
    with pytest.raises(ConfigError, match=r"`fraction` must be in \(0, 1\]"):
        label_fraction(people(["a"]), ["x"], fraction, seed=0)
    with pytest.raises(ValueError, match="one entry a sample"):
        label_fraction(people(["a"]), ["x", "y"], 0.5, seed=0)
