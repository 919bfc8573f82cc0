"""Which shards a name means: one, a folder, a pattern; what is missing is named."""

import pytest
from shard_writing import sample, write_shard, write_shards
from table_files import read, write_csv

from meddistill.data.config import TableConfig
from meddistill.data.shard_files import find_shards
from meddistill.data.table import read_table
from meddistill.errors import TableError


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "a[1]{x}", shards=3, samples=1)


def names(base, table):
    found = find_shards(TableConfig(table=table).table, base=base)
    return None if found is None else [each.relative_to(base).as_posix() for each in found]


def refusal(base, table):
    with pytest.raises(TableError) as caught:
        find_shards(TableConfig(table=table).table, base=base)
    return caught.value.mistakes[0]


def test_what_names_shards(shards):
    base = shards[0].parent
    write_shard(base / "val.tar", [sample(9)])
    write_csv(base / "t.csv", [{"image": "x"}])
    train = ["train-000.tar", "train-001.tar", "train-002.tar"]
    assert names(base, "train-{000..002}.tar") == train
    assert names(base, "train-{2..0}.tar".replace("{", "00{")) == train[::-1]
    assert names(base, "{val,train-001}.tar") == ["val.tar", "train-001.tar"]
    assert names(base, "train-*.tar") == train
    assert names(base, "train-00[02].tar") == [train[0], train[2]]
    assert names(base, "{val,train-*}.tar") == ["val.tar", *train]
    assert names(base, ".") == [*train, "val.tar"]
    assert names(base, "val.tar") == ["val.tar"]
    assert names(base, "t.csv") is None
    assert names(base, "gone.tar") is None
    assert names(base.parent, "a[1]{x}") == [f"a[1]{{x}}/{name}" for name in [*train, "val.tar"]]


def test_absolute_patterns(tmp_path):
    first, second = write_shards(tmp_path)
    found = find_shards(tmp_path / "train-*.tar", base=tmp_path / "elsewhere")
    assert found == (first, second)
    assert find_shards(tmp_path / "train-00{0,1}.tar", base=tmp_path / "elsewhere") == (first, second)


def test_a_file_that_looks_like_a_pattern_is_the_file(tmp_path):
    write_shard(tmp_path / "s-{0,1}.tar", [sample(0)])
    assert names(tmp_path, "s-{0,1}.tar") == ["s-{0,1}.tar"]


def test_missing_shards_are_named(shards):
    base = shards[0].parent
    shards[1].unlink()
    rule = "`table` must mean files that are there; got "
    assert refusal(base, "train-{000..002}.tar") == rule + "`train-001.tar`. Mend the pattern."
    many = refusal(base, "train-{000..099}.tar")
    assert "`train-001.tar`, `train-003.tar`, `train-004.tar`" in many
    assert "and 93 more" in many
    assert refusal(base, "val-*.tar") == rule + "`val-*.tar`. Mend the pattern."


def test_patterns_of_other_files_and_repeated_shards_are_refused(shards):
    base = shards[0].parent
    write_csv(base / "t.csv", [{"image": "x"}])
    assert "must mean tars; got `t.csv`" in refusal(base, "*.csv")
    assert "must mean a shard once" in refusal(base, "{train-000,train-*}.tar")
    assert "at most 1,000,000 shards" in refusal(base, "{0..99999999}.tar")


def test_a_missing_tar_is_a_missing_table(tmp_path):
    with pytest.raises(TableError, match="`table` must exist"):
        read(tmp_path / "gone.tar")


def test_rows_follow_the_order_of_the_pattern(shards):
    base = shards[0].parent
    config = TableConfig(table="train-00{2..0}.tar", id="__key__")
    assert read_table(config, base=base).ids == ("0002", "0001", "0000")


def test_a_tar_is_one_under_any_name(tmp_path):
    shard = write_shards(tmp_path, shards=1)[0]
    assert len(read(shard.rename(tmp_path / "9d75c1"), text="txt")) == 3
