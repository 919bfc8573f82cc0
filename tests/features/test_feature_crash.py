"""kill -9 at any moment loses nothing finished, and the same call ends with the same bytes."""

import errno
import os
from pathlib import Path

import killed_extraction
import numpy as np
import pytest

from forked import Forked
from meddistill.errors import StoreError
from meddistill.features.extract import extract
from meddistill.features.files import part_of
from meddistill.features.shards import ShardDraft
from toy_features import SMALL, toy_samples, toy_teacher, tree


def test_kill_9(tmp_path: Path) -> None:
    with Forked(killed_extraction.main, tmp_path) as process:
        code, out, err = process.ended()
    assert code == 0, err
    files, every, chain, at_random = map(int, out.split())
    assert files > 10
    assert every > files / 3
    assert chain > 3
    assert at_random > 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch, operation: str, number: int
) -> None:
    samples, teachers = toy_samples(tmp_path / "images", 13), {"a": toy_teacher("a")}
    extract(tmp_path / "whole", samples, teachers, SMALL)
    genuine, calls = getattr(os, operation), 0

    def failing(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(number, os.strerror(number))
        return genuine(*arguments, **named)

    monkeypatch.setattr(os, operation, failing)
    with pytest.raises(StoreError, match=r"must lie on a disk with room; .* give the same command again"):
        extract(tmp_path / "store", samples, teachers, SMALL)
    monkeypatch.undo()
    assert not [name for name in tree(tmp_path / "store") if name.endswith(".part")]
    extract(tmp_path / "store", samples, teachers, SMALL)
    assert tree(tmp_path / "store") == tree(tmp_path / "whole")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_while_a_shard_is_written(tmp_path: Path) -> None:
    part_of(tmp_path / "image-00000000.safetensors").symlink_to("/dev/full")

    def write() -> None:
        with ShardDraft(tmp_path / "image-00000000.safetensors", shape=(512,), dtype="float32") as draft:
            draft.append(np.zeros((1000, 512), np.float32))
            draft.finish()

    with pytest.raises(StoreError, match="must lie on a disk with room"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="must be writable; got: "):
        extract(tmp_path / "file" / "store", toy_samples(tmp_path / "i", 2), {"a": toy_teacher("a")}, SMALL)
