"""Stored features of slides in the layouts of CLAM and TRIDENT, and files that are neither."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from bag_world import write_features

from meddistill.errors import UserError
from meddistill.evaluation.bags.slide_features import feature_file, read_features

FEATURES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_clam(tmp_path: Path) -> None:
    write_features(tmp_path / "a.h5", FEATURES)
    found = read_features(tmp_path / "a.h5")
    np.testing.assert_array_equal(found.features, FEATURES)
    assert found.features.dtype == np.float32
    assert found.coordinates is not None
    assert found.coordinates.tolist()[1] == [512, 768]
    assert found.attributes == {"patch_size": 256, "patch_level": 0}


def test_trident_and_its_batch_of_one(tmp_path: Path) -> None:
    write_features(tmp_path / "a.h5", FEATURES, layout="trident")
    write_features(tmp_path / "b.h5", FEATURES[None], layout="trident")
    for name in ("a", "b"):
        found = read_features(tmp_path / f"{name}.h5")
        np.testing.assert_allclose(found.features, FEATURES, atol=2e-3)
        assert found.attributes["patch_size_level0"] == 512


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (FEATURES[0], r"\[patches, width\].*float32 \[3\]"),
        (np.zeros((2, 5, 3), np.float32), r"\[2, 5, 3\]"),
        (np.zeros((0, 3), np.float32), r"\[0, 3\]"),
        (np.ones((5, 3), np.int64), "int64"),
        (np.where(np.arange(5)[:, None] == [2, 9, 3], np.nan, FEATURES), "patches 3, 4"),
        (np.full((9, 2), np.inf, np.float32), "patches 1, 2, 3, 4, 5 and 4 more"),
    ],
)
def test_wrong_features_are_refused(tmp_path: Path, features: np.ndarray, words: str) -> None:
    write_features(tmp_path / "a.h5", features)
    with pytest.raises(UserError, match=words):
        read_features(tmp_path / "a.h5")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("features")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("features")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    write_features(tmp_path / "good.h5", FEATURES)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink(str(tmp_path / "good.h5"), "features")
    (tmp_path / "secret").write_bytes(FEATURES.tobytes())
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        outside = [(str(tmp_path / "secret"), 0, FEATURES.nbytes)]
        file.create_dataset("features", FEATURES.shape, FEATURES.dtype, external=outside)
    layout = h5py.VirtualLayout(FEATURES.shape, FEATURES.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "good.h5", "features", FEATURES.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    with h5py.File(tmp_path / "coords.h5", "w") as file:
        file["features"], file["coords"] = FEATURES, np.zeros((4, 2), np.int64)
    for name, words in {
        "text": "HDF5",
        "group": "a link, a group, or numbers of another file",
        "empty": "no such array",
        "link": "a link, a group, or numbers of another file",
        "outside": "numbers of another file",
        "virtual": "numbers of another file",
        "coords": r"int64 \[4, 2\] for 5 patches",
    }.items():
        with pytest.raises(UserError, match=words):
            read_features(tmp_path / f"{name}.h5")


def test_a_file_is_named_by_its_bag_and_never_by_a_path(tmp_path: Path) -> None:
    write_features(tmp_path / "in" / "s.1.h5", FEATURES)
    write_features(tmp_path / "out.h5", FEATURES)
    assert feature_file(tmp_path / "in", "s.1") == tmp_path / "in" / "s.1.h5"
    for name in ("s", "../out", "..", "", str(tmp_path / "out")):
        assert feature_file(tmp_path / "in", name) is None
