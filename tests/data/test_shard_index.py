"""The index of a shard: kept where it was asked for, made anew when it no longer fits."""

import os

import pytest
from shard_writing import picture, sample, write_shard, write_shards, write_tar
from table_files import read

from meddistill.data import shard_index as module
from meddistill.data.config import TableConfig
from meddistill.data.shard_index import shard_index
from meddistill.data.table import read_table
from meddistill.errors import TableError


@pytest.fixture
def scans(monkeypatch):
    """The shards that were looked through."""
    seen = []
    scan = module._scan

    def noting(path):
        seen.append(path.name)
        return scan(path)

    monkeypatch.setattr(module, "_scan", noting)
    return seen


def read_all(folder, **named):
    config = TableConfig(table="*.tar", text="txt", id="__key__", index="index", **named)
    return read_table(config, base=folder)


def test_places_are_those_of_the_files(tmp_path):
    shard = write_tar(tmp_path / "s.tar", [("a.png", picture(1)), ("a.txt", "one"), ("b.TXT", b"")])
    found = shard_index(shard, None).to_pylist()
    assert [(each["key"], each["kind"], each["size"]) for each in found] == [
        (b"a", b"png", len(picture(1))),
        (b"a", b"txt", 3),
        (b"b", b"TXT", 0),
    ]
    content = shard.read_bytes()
    assert content[found[1]["start"] :][:3] == b"one"


def test_shards_are_looked_through_once(tmp_path, scans):
    shards = write_shards(tmp_path)
    first = read_all(tmp_path)
    assert sorted(scans) == [each.name for each in shards]
    again = read_all(tmp_path)
    assert len(scans) == 2
    assert again == first
    assert len([*(tmp_path / "index").iterdir()]) == 2


def test_without_a_folder_nothing_is_written(tmp_path, scans):
    write_shards(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    for _ in range(2):
        read(tmp_path / "data", text="txt")
    assert len(scans) == 4
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("change", ["time put back", "time", "damaged index", "other format", "columns"])
def test_an_index_that_no_longer_fits_is_made_anew(tmp_path, scans, change, monkeypatch):
    (shard,) = write_shards(tmp_path, shards=1)
    read_all(tmp_path)
    (kept,) = (tmp_path / "index").iterdir()
    state = shard.stat()
    if change == "time put back":
        write_shard(shard, [sample(5), sample(6)])
        assert shard.stat().st_size == state.st_size
        os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "time":
        write_shard(shard, [sample(5), sample(6), sample(7)])
        assert shard.stat().st_size == state.st_size
    elif change == "damaged index":
        kept.write_bytes(kept.read_bytes()[:-9])
    elif change == "other format":
        monkeypatch.setattr(module, "FORMAT", b"2")
    else:
        table = module.pq.read_table(kept)
        module.pq.write_table(table.drop_columns(["size"]), kept)
    again = read_all(tmp_path)
    assert len(scans) == 2
    assert again.texts == read(shard, text="txt").texts
    count = len(scans)
    read_all(tmp_path)
    assert len(scans) == count
    assert [*(tmp_path / "index").iterdir()] == [kept]


def test_shards_of_one_name_and_state_in_two_folders_are_told_apart(tmp_path):
    one = write_shard(tmp_path / "a/s.tar", [("0", {"png": picture(0), "txt": "one"})])
    two = write_shard(tmp_path / "b/s.tar", [("1", {"txt": "two", "png": picture(0)})])
    for shard in (one, two):
        os.utime(shard, ns=(0, 0))
    index = tmp_path / "index"
    for _ in range(2):
        for folder, text in (("a", "one"), ("b", "two")):
            config = TableConfig(table=f"{folder}/s.tar", text="txt", index="index")
            assert read_table(config, base=tmp_path).texts == (text,)
    assert len([*index.iterdir()]) == 2


def test_a_folder_that_cannot_hold_the_index_is_refused(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "index").write_text("a file")
    with pytest.raises(TableError) as caught:
        read_all(tmp_path)
    assert caught.value.mistakes[0] == (
        "shard train-000.tar: the file must have an `index` in a folder that can be written; "
        "got File exists. Choose another folder, or leave `index` out."
    )


def test_the_index_holds_no_caption_and_no_field(tmp_path):
    write_shard(tmp_path / "s.tar", [sample(0, patient="Zyxwvut", note="planted-note")])
    read_all(tmp_path, patient="patient")
    (kept,) = (tmp_path / "index").iterdir()
    table = module.pq.read_table(kept)
    assert table.schema.names == ["key", "kind", "start", "size"]
    assert not any(word in str(table.to_pylist()) for word in ("Zyxwvut", "planted", "caption"))
