"""Few-shot draws: k images of each class, of different patients first, nested, the same everywhere."""

import itertools

import numpy as np

from meddistill.data.samples import Samples
from meddistill.evaluation.tasks.classification.shots import few_shot, shortages, shots_of, shots_setting
from meddistill.imaging.options import ImageRef

LABELS = ["a"] * 12 + ["b"] * 6 + ["c"] * 2


def _samples() -> Samples:
    """Class a: four patients with three images each; b: one patient with six; c: two patients."""
    patients = [f"a{row // 3}" for row in range(12)] + ["b"] * 6 + ["c0", "c1"]
    refs = tuple(ImageRef(path=f"{row}.png") for row in range(20))  # type: ignore[arg-type]
    return Samples(refs=refs, patients=tuple(patients))


def _counts(rows: np.ndarray) -> dict[str, int]:
    labels = [LABELS[row] for row in rows]
    return {name: labels.count(name) for name in "abc"}


def test_as_many_of_each_class_as_there_are() -> None:
    for shots in (1, 2, 4, 8):
        rows = few_shot(_samples(), LABELS, shots, 0)
        assert _counts(rows) == {"a": min(shots, 12), "b": min(shots, 6), "c": min(shots, 2)}
        assert rows.tolist() == sorted(set(rows.tolist()))


def test_different_patients_first() -> None:
    samples = _samples()
    rows = [row for row in few_shot(samples, LABELS, 4, 3) if LABELS[row] == "a"]
    assert len({samples.patients[row] for row in rows}) == 4


def test_nested_and_drawn_by_seed() -> None:
    draws = [set(few_shot(_samples(), LABELS, shots, 1).tolist()) for shots in (1, 2, 4, 8, 16)]
    assert all(small <= large for small, large in itertools.pairwise(draws))
    assert len({tuple(few_shot(_samples(), LABELS, 1, seed)) for seed in range(8)}) > 2
    np.testing.assert_array_equal(few_shot(_samples(), LABELS, 2, 5), few_shot(_samples(), LABELS, 2, 5))


def test_other_rows_move_no_draw() -> None:
    kept = np.array([row for row in range(20) if LABELS[row] != "b"])
    fewer = few_shot(_samples().take(kept), [LABELS[row] for row in kept], 2, 0)
    whole = [row for row in few_shot(_samples(), LABELS, 2, 0) if LABELS[row] != "b"]
    assert kept[fewer].tolist() == whole


def test_what_a_setting_is_called() -> None:
    assert [shots_setting(each) for each in (1, 16)] == ["1 shot a class", "16 shots a class"]
    assert [shots_of(each) for each in ("1 shot a class", "16 shots a class")] == [1, 16]
    assert shots_of("30 % of training patients") is None


def test_classes_that_are_short_are_named() -> None:
    assert shortages({"a": 12, "b": 6}, [1, 4]) == []
    said = " ".join(shortages({"a": 12, "b": 6, "c": 0}, [1, 8]))
    assert "b (6)" in said
    assert "8 shots" in said
    assert "no training image of c" in said
