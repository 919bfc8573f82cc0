"""Damage at many places of every file of a store: found, told, and mended with nothing else made again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from meddistill.errors import StoreError
from meddistill.features.extract import extract
from meddistill.features.files import MANIFEST, MANIFEST_COPY
from meddistill.features.reader import FeatureStore
from meddistill.features.verify import repair, verify
from toy_features import OF_ALL_ROWS, SMALL, ToyImages, toy_samples, toy_teacher, tree

PLACES = 12
SHARD = "teachers/a/image-00000008.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A store, and what makes it."""
    folder = tmp_path_factory.mktemp("places")
    samples = toy_samples(folder / "images", 20, captions=30)
    teachers = {"a": toy_teacher("a"), "b": toy_teacher("b", kind=ToyImages, seed=1)}
    options = SMALL.model_copy(update={"precision": "int8"})
    extract(folder / "store", samples, teachers, options)
    return folder / "store", lambda: extract(folder / "store", samples, teachers, options)


def places(size: int, number: int = PLACES) -> list[int]:
    """From the first byte to the last."""
    return sorted({int(place) for place in np.linspace(0, size - 1, number)})


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def test_a_flipped_bit_anywhere_is_found(made) -> None:
    store, _ = made
    files = tree(store)
    assert len(files) > 15
    for name, content in files.items():
        for place in places(len(content)):
            with changed(store / name, flipped(content, place)):
                assert [damage.file for damage in verify(store).damages] == [name], (name, place)
    assert verify(store).damages == ()


def test_every_cut_of_every_file_is_found_at_opening_or_by_verify(made) -> None:
    store, _ = made
    for name, content in tree(store).items():
        for size in places(len(content)):  # from nothing to all but one byte
            with changed(store / name, content[:size]):
                assert [damage.file for damage in verify(store).damages] == [name], (name, size)
                if ".copy." not in name:
                    with pytest.raises(StoreError, match=r"verify .* --repair"):
                        FeatureStore.open(store)


@pytest.mark.parametrize("folder", [".", "teachers/a"])
def test_every_byte_of_a_manifest_counts(made, folder: str) -> None:
    store, _ = made
    path = store / folder / MANIFEST
    content = path.read_bytes()
    for place in [*range(100), *range(100, len(content) - 20, 37), *range(len(content) - 20, len(content))]:
        with changed(path, flipped(content, place)), pytest.raises(StoreError, match="it is damaged"):
            FeatureStore.open(store)
    assert FeatureStore.open(store).teachers == ("a", "b")


def test_a_shard_is_checked_at_its_first_touch_wherever_it_is_damaged(made) -> None:
    store, _ = made
    content = (store / SHARD).read_bytes()
    for place in places(len(content)):
        with changed(store / SHARD, flipped(content, place)):
            opened = FeatureStore.open(store)
            opened.read("b", "image", np.arange(20))
            with pytest.raises(StoreError, match="its hash differs"):
                opened.read("a", "image", np.array([8]))


def test_damage_in_many_files_at_once_is_mended_and_nothing_else_is_made_again(made) -> None:
    store, again = made
    whole = tree(store)
    damaged = [
        "manifest.json",
        "tables/images-0000.parquet",
        "tables/texts-0000.copy.parquet",
        "teachers/b/manifest.copy.json",
        SHARD,
        "teachers/a/text-00000000.safetensors",
        "teachers/b/statistics.safetensors",
    ]
    for name in damaged:
        content = whole[name]
        (store / name).write_bytes(flipped(content, len(content) // 2))
    assert {damage.file for damage in repair(store).damages} == set(damaged)
    kept = {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}
    again()
    assert tree(store) == whole
    remade = {path.relative_to(store).as_posix() for path in kept if path.stat().st_mtime_ns != kept[path]}
    summaries = {f"teachers/{teacher}/{name}" for teacher in "ab" for name in OF_ALL_ROWS}
    assert remade - summaries <= set(damaged)
    assert {MANIFEST, MANIFEST_COPY} <= set(whole)
