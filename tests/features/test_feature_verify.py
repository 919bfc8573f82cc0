"""Damage: truncation is found at opening, flipped bits at first touch and by verify, everywhere; repair."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from meddistill.errors import StoreError, UserError
from meddistill.features.extract import extract
from meddistill.features.reader import FeatureStore
from meddistill.features.summary import summarize
from meddistill.features.verify import repair, verify
from meddistill.features.workers import Workers
from toy_features import OF_ALL_ROWS, SMALL, ToyTokens, toy_samples, toy_teacher, tree

OPTIONS = SMALL.model_copy(update={"tokens": True})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    make(folder, folder / "store")
    return folder


def make(folder: Path, store: Path) -> FeatureStore:
    teachers = {"a": toy_teacher("a"), "b": toy_teacher("b", kind=ToyTokens, seed=1)}
    return extract(store, toy_samples(folder / "images", 21), teachers, OPTIONS)


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole / "store", tmp_path / "store")
    return tmp_path / "store"


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(bytes(content))


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def files(store: Path, suffix: str) -> list[Path]:
    found = sorted(path for path in store.rglob(f"*{suffix}") if path.is_file())
    assert found
    return found


def test_a_whole_store_has_no_damage(store: Path) -> None:
    found = verify(store)
    assert found.damages == ()
    assert found.bytes == summarize(FeatureStore.open(store)).bytes
    assert found.files == len(files(store, ".safetensors")) + len(files(store, ".parquet"))


def test_every_flipped_bit_is_found_by_verify(store: Path) -> None:
    places = np.random.default_rng(0)
    everything = files(store, ".safetensors") + files(store, ".parquet") + files(store, ".json")
    for path in everything:
        size = path.stat().st_size
        for place in (0, size - 1, *places.integers(0, size, 4)):
            bit = int(places.integers(0, 8))
            flip(path, place, bit)
            assert [damage.file for damage in verify(store).damages] == [path.relative_to(store).as_posix()]
            flip(path, place, bit)
    assert verify(store).damages == ()


def test_all_damage_is_reported_at_once(store: Path) -> None:
    shards = files(store, "8.safetensors")
    flip(shards[0], 4100)
    truncate(shards[1], 100)
    shards[2].unlink()
    found = {damage.file: damage.problem for damage in verify(store).damages}
    names = [shard.relative_to(store).as_posix() for shard in shards[:3]]
    assert set(found) == set(names)
    assert "another hash" in found[names[0]]
    assert "has 100 bytes, not" in found[names[1]]
    assert found[names[2]] == "is missing"


@pytest.mark.parametrize("suffix", [".safetensors", "0000.parquet"])
def test_truncation_is_found_at_opening(store: Path, suffix: str) -> None:
    for path in files(store, suffix):
        content = path.read_bytes()
        for size in (0, 10, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            with pytest.raises(StoreError, match=rf"{path.name}` has {size} bytes, not {len(content)}"):
                FeatureStore.open(store)
        path.unlink()
        with pytest.raises(StoreError, match=rf"{path.name}` is missing"):
            FeatureStore.open(store)
        path.write_bytes(content)


def test_damaged_manifests_are_found_at_opening(store: Path) -> None:
    places = np.random.default_rng(0)
    for path in files(store, "manifest.json"):
        content = path.read_bytes()
        for place in (0, 20, 80, len(content) - 1, *places.integers(0, len(content), 30)):
            flip(path, place, int(places.integers(0, 8)))
            with pytest.raises(StoreError, match="must be as it was written; it is damaged"):
                FeatureStore.open(store)
            path.write_bytes(content)
        for size in (0, 1, 90, len(content) // 2, len(content) - 1):
            truncate(path, size)
            with pytest.raises(StoreError, match="it is damaged"):
                FeatureStore.open(store)
        path.write_bytes(content)


def test_flipped_bits_are_found_at_first_touch_and_only_there(store: Path) -> None:
    flip(store / "teachers" / "a" / "image-00000008.safetensors", 4100)
    opened = FeatureStore.open(store)
    assert np.isfinite(opened.read("a", "image", np.array([0, 7, 20]))).all()
    with pytest.raises(StoreError, match=r"image-00000008\.safetensors` must be as it was written; its hash"):
        opened.read("a", "image", np.array([0, 9]))
    with pytest.raises(StoreError, match=r"image-00000008\.safetensors"):
        opened.read("a", "image", np.array([8]))


def test_flipped_bits_of_tables_are_found_at_first_touch(store: Path) -> None:
    path = store / "tables" / "images-0000.parquet"
    flip(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match=r"images-0000\.parquet` must be as it was written"):
        FeatureStore.open(store).image_rows(["00" * 32])


def test_repair_drops_damaged_shards_and_only_those_are_made_again(whole: Path, store: Path) -> None:
    shards = files(store, "8.safetensors")
    flip(shards[0], 4100)
    truncate(shards[1], 100)
    (store / "teachers" / "b" / "patches-00000016.safetensors").unlink()
    flip(store / "teachers" / "a" / "statistics.safetensors", 200)
    dropped = {damage.file for damage in repair(store).damages}
    assert len(dropped) == 4
    opened = FeatureStore.open(store)
    assert opened.missing("a") | opened.missing("b")
    kept = {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}
    make(whole, store)
    assert tree(store) == tree(whole / "store")
    remade = {path.relative_to(store).as_posix() for path in kept if path.stat().st_mtime_ns != kept[path]}
    assert remade <= dropped | {f"teachers/{name}/{file}" for name in "ab" for file in OF_ALL_ROWS}


def test_extraction_refuses_truncated_shards_until_they_are_dropped(whole: Path, store: Path) -> None:
    truncate(files(store, "8.safetensors")[0], 100)
    with pytest.raises(StoreError, match=r"has 100 bytes, not .*verify .* --repair"):
        make(whole, store)
    repair(store)
    make(whole, store)
    assert tree(store) == tree(whole / "store")


@pytest.mark.parametrize("damaged", ["manifest.json", "manifest.copy.json"])
def test_manifests_are_restored_from_one_another(whole: Path, store: Path, damaged: str) -> None:
    for folder in (store, store / "teachers" / "a"):
        flip(folder / damaged, 100)
    (store / "teachers" / "b" / damaged).unlink()
    assert len(repair(store).damages) == 3
    assert tree(store) == tree(whole / "store")


def test_what_cannot_be_repaired_is_told(store: Path) -> None:
    flip(store / "teachers" / "a" / "manifest.json", 100)
    flip(store / "teachers" / "a" / "manifest.copy.json", 100)
    with pytest.raises(StoreError, match=r"both are damaged.*delete the folder, and repair and extract"):
        repair(store)


def test_deleting_a_teachers_folder_repairing_and_extracting_again_helps(whole: Path, store: Path) -> None:
    for name in ("manifest.json", "manifest.copy.json"):
        flip(store / "teachers" / "a" / name, 100)
    shutil.rmtree(store / "teachers" / "a")
    assert len(repair(store).damages) == 2
    make(whole, store)
    assert verify(store).damages == ()
    assert FeatureStore.open(store).missing("a") == FeatureStore.open(whole / "store").missing("a")


def test_tables_are_restored_from_their_copies(whole: Path, store: Path) -> None:
    flip(store / "tables" / "texts-0000.parquet", 100)
    truncate(store / "tables" / "pairs-0000.parquet", 10)
    (store / "tables" / "images-0000.copy.parquet").unlink()
    assert len(repair(store).damages) == 3
    assert tree(store) == tree(whole / "store")
    for name in ("texts-0000.parquet", "texts-0000.copy.parquet"):
        flip(store / "tables" / name, 100)
    with pytest.raises(StoreError, match=r"texts-0000\.parquet` or its copy must be whole"):
        repair(store)


def test_repair_waits_for_no_writer(store: Path) -> None:
    with Workers.join(store) as workers:
        assert workers.admit(alone=False)
        with pytest.raises(StoreError, match="no writer at work while it is"):
            repair(store)


def test_verify_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="must be a feature store"):
        verify(tmp_path)


def test_a_store_of_another_version_is_told(store: Path) -> None:
    from meddistill.features.files import write_manifest

    write_manifest(store, '{"format": "meddistill-features", "version": 9}')
    for work in (FeatureStore.open, repair):
        with pytest.raises(StoreError, match="must follow version 1 of the format"):
            work(store)


def test_what_cannot_be_read_is_not_taken_for_damage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repairing drops what is damaged; a disk or a right that is missing for a moment must cost nothing."""

    def refuses(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("meddistill.features.verify.sha256_of", refuses)
    for work in (verify, repair):
        with pytest.raises(UserError, match="must be readable; got Permission denied") as caught:
            work(store)
        assert not isinstance(caught.value, StoreError)
    monkeypatch.undo()
    assert not verify(store).damages
