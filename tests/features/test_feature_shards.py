"""Shards: any safetensors reader reads them, data begin on pages, and a broken-off draft leaves nothing."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from meddistill.errors import StoreError
from meddistill.features.shards import PAGE, ShardDraft, locate, mapped, write_tensors
from meddistill.files import sha256_of


def values_of(dtype: str, *shape: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * 40).astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_library_reads_what_was_written_batch_by_batch(tmp_path: Path, dtype: str) -> None:
    values = values_of(dtype, 11, 5, 3)
    with ShardDraft(tmp_path / "a.safetensors", shape=(5, 3), dtype=dtype) as draft:
        draft.append(values[:4])
        draft.append(values[4:])
        entry = draft.finish()
        draft.place()
    assert np.array_equal(load_file(tmp_path / "a.safetensors")["values"], values)
    assert np.array_equal(mapped(tmp_path / "a.safetensors")["values"], values)
    assert locate(tmp_path / "a.safetensors")["values"][2] == PAGE
    assert entry.bytes == (tmp_path / "a.safetensors").stat().st_size
    assert entry.sha256 == sha256_of(tmp_path / "a.safetensors")


def test_int8_rows_stand_beside_their_scales(tmp_path: Path) -> None:
    values, scale = values_of("int8", 6, 4), np.arange(6, dtype=np.float32)
    with ShardDraft(tmp_path / "a.safetensors", shape=(4,), dtype="int8") as draft:
        draft.append(values[:2], scale=scale[:2])
        draft.append(values[2:], scale=scale[2:])
        draft.finish()
        draft.place()
    found = load_file(tmp_path / "a.safetensors")
    assert np.array_equal(found["values"], values)
    assert np.array_equal(found["scale"], scale)


def test_ragged_rows_have_offsets(tmp_path: Path) -> None:
    values = values_of("float16", 9, 4)
    with ShardDraft(tmp_path / "a.safetensors", shape=(4,), dtype="float16", ragged=True) as draft:
        draft.append(values[:5], lengths=np.array([2, 0, 3]))
        draft.append(values[5:], lengths=np.array([4]))
        assert draft.rows == 4
        draft.finish()
        draft.place()
    found = load_file(tmp_path / "a.safetensors")
    assert found["offsets"].tolist() == [0, 2, 2, 5, 9]
    assert np.array_equal(found["values"], values)


def test_a_draft_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with ShardDraft(tmp_path / "a.safetensors", shape=(4,), dtype="int8") as draft:
            draft.append(values_of("int8", 2, 4), scale=np.ones(2, np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_other_shapes_and_dtypes_are_refused(tmp_path: Path) -> None:
    with ShardDraft(tmp_path / "a.safetensors", shape=(4,), dtype="float16") as draft:
        for wrong in (values_of("float16", 2, 5), values_of("float32", 2, 4)):
            with pytest.raises(StoreError, match=r"`values` must be float16 rows of shape \(4,\)"):
                draft.append(wrong)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 20, b"\x10" + b"\x00" * 7 + b"[1, 2, 3, 4, 5, 6", b"\xff" * 100]
)
def test_a_file_that_is_no_shard_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(StoreError, match="must be a readable safetensors file"):
        locate(tmp_path / "a.safetensors")


def test_small_files_hold_named_tensors(tmp_path: Path) -> None:
    tensors = {"a": np.arange(3.0), "b": np.arange(4).reshape(2, 2), "empty": np.empty((0, 2))}
    write_tensors(tmp_path / "a.safetensors", tensors)
    for found in (load_file(tmp_path / "a.safetensors"), mapped(tmp_path / "a.safetensors")):
        assert {name: found[name].tolist() for name in tensors} == {k: v.tolist() for k, v in tensors.items()}
