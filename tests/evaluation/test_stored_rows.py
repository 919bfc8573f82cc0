"""One output of one model in a store: several at work, texts that come later, suites that change."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import several_readers
from several_readers import CARD, CountedModel, read, rows_in

from forked import Forked
from meddistill.data.keys import text_key
from meddistill.errors import StoreError
from meddistill.evaluation.models.cached_output import CachedOutput, ComputedRows
from meddistill.features.reader import FeatureStore
from meddistill.features.verify import verify

WORDS = [f"text {number}" for number in range(20)]


def test_texts_that_come_later_are_added(tmp_path: Path) -> None:
    assert read(rows_in(tmp_path), WORDS[:6]) == (list(range(6)), 6)
    before = {path: path.read_bytes() for path in tmp_path.rglob("text-*.safetensors")}
    assert read(rows_in(tmp_path), [WORDS[9], *WORDS[:6], WORDS[8], WORDS[9]]) == ([9, *range(6), 8, 9], 2)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert read(rows_in(tmp_path), WORDS[:6]) == (list(range(6)), 0)
    assert verify(tmp_path).damages == ()


def test_a_dead_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(rows_in(tmp_path), WORDS, CountedModel(WORDS, dies_after=9))
    assert read(rows_in(tmp_path), WORDS) == (list(range(20)), 8)


def test_a_dead_run_of_another_suite_is_in_nobodys_way(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(rows_in(tmp_path), WORDS[:10], CountedModel(WORDS, dies_after=8))
    # The finished shards serve; what only the dead run could finish is made anew with all else.
    assert read(rows_in(tmp_path), WORDS[:8]) == (list(range(8)), 0)
    assert read(rows_in(tmp_path), WORDS[:9]) == (list(range(9)), 9)
    assert verify(tmp_path).damages == ()


def test_several_share_the_work(tmp_path: Path) -> None:
    with Forked(several_readers.main, tmp_path / "store", 3) as process:
        code, out, err = process.ended()
    assert code == 0, err
    counts = json.loads(out)
    assert len(counts) == 3
    # Of a new store everybody looks at the first shard, to know its width.
    assert 200 <= sum(counts) <= 200 + 3 * 4
    assert read(rows_in(tmp_path / "store"), [f"text {number}" for number in range(200)])[1] == 0


def test_damage_is_made_again(tmp_path: Path) -> None:
    read(rows_in(tmp_path), WORDS)
    shard = sorted(tmp_path.rglob("text-*.safetensors"))[2]
    content = bytearray(shard.read_bytes())
    content[-2] ^= 4
    shard.write_bytes(bytes(content))
    assert read(rows_in(tmp_path), WORDS) == (list(range(20)), 4)
    for table in (tmp_path / "tables").iterdir():
        table.write_bytes(b"no table")
    assert read(rows_in(tmp_path), WORDS) == (list(range(20)), 20)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(StoreError, match="must be a feature store or an empty folder"):
        read(rows_in(tmp_path), WORDS)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_rows_of_different_lengths_come_back(tmp_path: Path) -> None:
    rows = CachedOutput(tmp_path, "text_tokens", card=CARD, dtype="float16", shard_rows=4)
    lengths = np.array([2, 1, 3, 1, 2, 2], dtype=np.int64)

    def model_call(positions: Sequence[int]) -> ComputedRows:
        chosen = lengths[list(positions)]
        values = np.concatenate([np.full((lengths[each], 3), each, np.float16) for each in positions])
        return ComputedRows(values=values, lengths=chosen)

    keys = [text_key(text) for text in WORDS[:6]]
    rows.read(keys, model_call)
    found = rows.read([keys[2], keys[5], keys[2]], model_call)
    assert found.lengths is not None
    assert found.lengths.tolist() == [3, 2, 3]
    assert found.values[:, 0].tolist() == [2, 2, 2, 5, 5, 2, 2, 2]
    assert FeatureStore.open(tmp_path).outputs("model")["text_tokens"].ragged
