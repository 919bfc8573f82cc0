"""MedMNIST from its .npz files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_checks import check_suite, kinds, rows
from PIL import Image

from meddistill.data.known.medmnist import flags
from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError, TableError

COUNTS = {"train": 12, "val": 4, "test": 6}


def arrays(shape: tuple[int, ...] = (8, 8, 3), classes: int = 9, width: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        made[f"{split}_labels"] = rng.integers(0, classes, (count, width), dtype=np.uint8)
    return made


def test_pixels_labels_and_splits_are_those_of_the_arrays(tmp_path: Path) -> None:
    made = arrays()
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "pathmnist.npz", **made)
    found = prepare("medmnist", tmp_path / "in", tmp_path / "out")
    assert found.tables == {tmp_path / "out" / "pathmnist.csv": {"train": 12, "validation": 4, "test": 6}}
    table = rows(tmp_path / "out" / "pathmnist.csv")
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        own = [row for row in table if row["split"] == split]
        pixels = [np.asarray(Image.open(tmp_path / "out" / row["image"])) for row in own]
        assert (np.stack(pixels) == made[f"{key}_images"]).all()
        names = flags()["pathmnist"]["labels"]
        assert [row["label"] for row in own] == [names[int(n)] for n in made[f"{key}_labels"][:, 0]]
    content = check_suite(tmp_path / "out")
    assert kinds(content) == {
        "pathmnist_zero_shot": "zero_shot",
        "pathmnist_linear_probe": "linear_probe",
        "pathmnist_knn": "knn",
    }
    assert content["tasks"][0]["dataset"] == ["MedMNIST", "NCT-CRC-HE-100K"]


def test_images_that_are_judged_are_not_learnt_from(tmp_path: Path) -> None:
    made = arrays((8, 8), classes=2)
    made["train_images"][3] = made["test_images"][0]
    made["train_images"][5] = made["val_images"][2]
    made["val_images"][0] = made["test_images"][0]
    made["train_images"][1] = made["train_images"][0]  # copies inside a split stay as published
    (tmp_path / "in").mkdir()
    np.savez_compressed(tmp_path / "in" / "breastmnist_64.npz", **made)
    found = prepare("medmnist", tmp_path / "in", tmp_path / "out")
    assert found.tables[tmp_path / "out" / "breastmnist_64.csv"] == {"train": 10, "validation": 3, "test": 6}
    assert "breastmnist_64: 3 images left out of training or validation: tested as well" in found.notes
    table = rows(tmp_path / "out" / "breastmnist_64.csv")
    numbers = [int(Path(row["image"]).stem) for row in table if row["split"] == "train"]
    assert numbers == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert [row["label"] for row in table if row["split"] == "train"] == [
        flags()["breastmnist"]["labels"][int(made["train_labels"][n, 0])] for n in numbers
    ]
    check_suite(tmp_path / "out")


def test_several_labels_an_image(tmp_path: Path) -> None:
    made = arrays((8, 8), classes=2, width=14)
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "chestmnist.npz", **made)
    prepare("medmnist", tmp_path / "in", tmp_path / "out")
    table = rows(tmp_path / "out" / "chestmnist.csv")
    names = flags()["chestmnist"]["labels"]
    train = [[int(row[name]) for name in names] for row in table if row["split"] == "train"]
    assert (np.array(train) == made["train_labels"]).all()
    content = check_suite(tmp_path / "out")
    assert kinds(content) == {
        "chestmnist_zero_shot": "zero_shot_multilabel",
        "chestmnist_linear_probe": "linear_probe_multilabel",
    }
    assert list(content["tasks"][0]["labels"]) == names


def test_grades_are_told_as_such_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "retinamnist.npz", **arrays(classes=5))
    np.savez(tmp_path / "in" / "bloodmnist.npz", **arrays(classes=8))
    prepare("medmnist", tmp_path / "in", tmp_path / "out")
    tasks = {each["name"]: each for each in check_suite(tmp_path / "out")["tasks"]}
    for kind in ("zero_shot", "linear_probe", "knn"):
        graded = tasks[f"retinamnist_{kind}"]
        assert graded["ordinal"] is True
        assert list(graded["classes"]) == flags()["retinamnist"]["labels"]
        assert "ordinal" not in tasks[f"bloodmnist_{kind}"]


def test_the_number_of_classes_is_the_published_one() -> None:
    assert {flag: len(facts["labels"]) for flag, facts in flags().items()} == {
        "pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2,
        "retinamnist": 5, "breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8, "organamnist": 11,
        "organcmnist": 11, "organsmnist": 11,
    }  # fmt: skip


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path(tmp_path / "sprung").touch, ()

    (tmp_path / "in").mkdir()
    made = arrays()
    made["test_images"] = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "in" / "pathmnist.npz", **made)
    with pytest.raises(TableError, match=r"`test_images` must hold unsigned bytes .* object"):
        prepare("medmnist", tmp_path / "in", tmp_path / "out")
    made = arrays()
    made["test_labels"] = np.array([[Trap()]] * 6, dtype=object)
    np.savez(tmp_path / "in" / "pathmnist.npz", **made)
    with pytest.raises(TableError, match=r"`test_labels` must be an array"):
        prepare("medmnist", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "sprung").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"val_labels": np.full((4, 1), 9, np.uint8)},
            r"`val_labels` must be 4 x 1 whole numbers .* 8; got 9",
        ),
        ({"test_labels": np.zeros((5, 1), np.uint8)}, r"`test_labels` must be 6 x 1 .* shape \(5, 1\)"),
        ({"test_images": np.zeros((6, 4, 4, 4), np.uint8)}, r"`test_images` must hold grey or colour"),
        ({"test_images": np.zeros((6, 4, 4), np.float32)}, r"must hold unsigned bytes .* float32"),
        (
            {"train_images": None},
            r"`train_images` must be an array .* it holds .*val_labels",
        ),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "in").mkdir()
    made = {name: value for name, value in {**arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "in" / "pathmnist.npz", **made)
    with pytest.raises(TableError, match=said):
        prepare("medmnist", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "pathmnist.npz"
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TableError, match=r"must be an array of an .npz file; got"):
        prepare("medmnist", tmp_path / "in", tmp_path / "out")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "organmnist3d.npz", **arrays())
    with pytest.raises(ConfigError, match=r"must hold <flag>\.npz, where <flag> is one of pathmnist"):
        prepare("medmnist", tmp_path / "in", tmp_path / "out")
