"""Stored features of slides in the layouts of CLAM and TRIDENT, and files that are neither."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from bag_world import write_features

from meddistill.errors import UserError
from meddistill.evaluation.tasks.bags.slide_features import feature_file, read_features

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
        "text": "HDF5.*got text",
        "group": "a group, a link or numbers of another file",
        "empty": "holds nothing",
        "link": "a group, a link or numbers of another file",
        "outside": "numbers of another file",
        "virtual": "numbers of another file",
        "coords": r"int64 \[4, 2\] for 5 patches",
    }.items():
        with pytest.raises(UserError, match=words):
            read_features(tmp_path / f"{name}.h5")


@pytest.mark.parametrize("features", [FEATURES[0], FEATURES[:1], FEATURES[None, :1]])
def test_a_vector_of_the_whole_slide_is_one_row_without_a_place(tmp_path: Path, features: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["coords"] = features, np.zeros((7, 2), np.int64)
    found = read_features(tmp_path / "a.h5")
    np.testing.assert_array_equal(found.features, FEATURES[:1])
    assert found.coordinates is None


def test_the_vector_of_a_slide_of_one_patch_keeps_its_place(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["coords"] = FEATURES[0], np.full((1, 2), 5)
    coordinates = read_features(tmp_path / "a.h5").coordinates
    assert coordinates is not None
    assert coordinates.tolist() == [[5, 5]]


HOLD = "import h5py, sys\nf = h5py.File(sys.argv[1], 'a')\nprint('open', flush=True)\nsys.stdin.read()\n"


def test_a_file_that_is_being_written_is_busy_and_the_remedies_help(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.h5"
    write_features(path, FEATURES)
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(UserError, match=r"another process writes.*HDF5_USE_FILE_LOCKING=FALSE") as caught:
            read_features(path)
        assert "amaged" not in str(caught.value)
        with h5py.File(path, "r", locking=False) as file:  # what the variable sets before h5py is loaded
            np.testing.assert_array_equal(file["features"], FEATURES)
    read_features(path)


def test_a_file_that_a_dead_writer_left_open_is_told_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "open.h5", "w", libver="latest") as file:
        file["features"] = FEATURES
        file.flush()
        shutil.copy(tmp_path / "open.h5", tmp_path / "a.h5")
    with pytest.raises(UserError, match=r"left open when it ended.*make it anew"):
        read_features(tmp_path / "a.h5")


def test_damage_is_said_of_what_the_length_or_the_decoder_shows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        noise = np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32)
        file.create_dataset("features", data=noise, compression="gzip", chunks=(500, 3))
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=f"{len(whole) // 2} bytes that should have {len(whole)}"):
        read_features(tmp_path / "a.h5")
    flipped = bytearray(whole)
    flipped[len(whole) * 3 // 4] ^= 0xFF
    (tmp_path / "a.h5").write_bytes(flipped)
    with pytest.raises(UserError, match="damaged contents"):
        read_features(tmp_path / "a.h5")


def test_a_packing_that_is_not_here_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((5, 3))
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # zstd, a plug-in
        space = h5py.h5s.create_simple((5, 3))
        h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, space, properties)
    with pytest.raises(UserError, match=r"filter 32015.*gzip or unpacked") as caught:
        read_features(tmp_path / "a.h5")
    assert "amaged" not in str(caught.value)


def test_a_file_is_named_by_its_bag_and_never_by_a_path(tmp_path: Path) -> None:
    write_features(tmp_path / "in" / "s.1.h5", FEATURES)
    write_features(tmp_path / "out.h5", FEATURES)
    assert feature_file(tmp_path / "in", "s.1") == tmp_path / "in" / "s.1.h5"
    for name in ("s", "../out", "..", "", str(tmp_path / "out")):
        assert feature_file(tmp_path / "in", name) is None


@pytest.mark.parametrize("name", ["features", "coords"])
@pytest.mark.parametrize("kind", ["no values", "time"])
def test_arrays_that_numpy_cannot_hold_are_named(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features" if name == "coords" else "coords"] = np.ones((5, 2), np.float32)
        if kind == "no values":
            file[name] = h5py.Empty("f4")
        else:
            space = h5py.h5s.create_simple((5, 2))
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.UNIX_D32LE, space)
    with pytest.raises(UserError, match=f"`{name}` that can be read; .* Store it as float32"):
        read_features(path)


def test_attributes_of_odd_types_are_passed_over(tmp_path: Path) -> None:
    write_features(tmp_path / "a.h5", FEATURES)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["coords"].attrs["patch_size"]
        h5py.h5a.create(file["coords"].id, b"patch_size", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((1,)))
    assert read_features(tmp_path / "a.h5").attributes == {"patch_level": 0}


def test_what_float32_cannot_hold_is_named(tmp_path: Path) -> None:
    for name, features, corners in (
        ("features", FEATURES.astype(np.float64) * 1e300, np.zeros((5, 2))),
        ("coords", FEATURES, np.full((5, 2), np.nan)),
    ):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["features"], file["coords"] = features, corners
        with pytest.raises(UserError, match=rf"finite.*{name}|{name}.*finite"):
            read_features(tmp_path / "a.h5")
