"""Rows without a caption: legal in a table to learn from, refused in one to be judged on."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_writing import sample, write_shard
from table_files import paint_all, write_csv

from meddistill.data.config import TableConfig, TrainingTableConfig
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import text_keys
from meddistill.data.table import read_table
from meddistill.errors import TableError
from meddistill.imaging import Geometry

TEXTS = ["a lesion", "", "A  lesion", " \t ", None]
KINDS = ("csv", "parquet", "tar")


def _table(folder, kind, texts=TEXTS):
    """The same rows in one form or another; in a tar a sample without a caption has no `txt`."""
    path = folder / f"t.{kind}"
    if kind == "tar":
        packed = [sample(number) for number in range(len(texts))]
        for (_, files), text in zip(packed, texts, strict=True):
            del files["txt"]
            files |= {} if text is None else {"txt": text}
        write_shard(path, packed)
        return path, {"text": "txt"}
    rows = [
        {"image": name, "text": text} for name, text in zip(paint_all(folder, len(texts)), texts, strict=True)
    ]
    if kind == "csv":
        write_csv(path, [{**row, "text": row["text"] or ""} for row in rows])
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path, {"text": "text"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_may_have_no_caption(tmp_path, kind):
    path, roles = _table(tmp_path, kind)
    samples = read_table(TrainingTableConfig(table=path.name, **roles), base=tmp_path)
    assert samples.texts == ("a lesion", "", "A  lesion", "", "")
    assert samples.captioned.tolist() == [True, False, True, False, False]
    assert samples.captions == ("a lesion", "A  lesion")
    assert [bool(key) for key in text_keys(samples)] == samples.captioned.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_to_be_judged_on_must_have_them(tmp_path, kind):
    path, roles = _table(tmp_path, kind)
    with pytest.raises(TableError) as caught:
        read_table(TableConfig(table=path.name, **roles), base=tmp_path)
    assert [line.split()[1].strip(":") for line in caught.value.mistakes] == ["2", "4", "5"]
    assert all("must hold a caption" in line for line in caught.value.mistakes)


def test_a_table_of_blanks_is_one_without_captions(tmp_path):
    path, roles = _table(tmp_path, "csv", texts=["", " ", ""])
    samples = read_table(TrainingTableConfig(table=path.name, **roles), base=tmp_path)
    assert samples.texts is None
    assert not samples.captioned.any()
    without = read_table(TrainingTableConfig(table=path.name), base=tmp_path)
    assert samples.table_hash == without.table_hash


def test_blank_captions_are_nobodys_equals(tmp_path):
    path, roles = _table(tmp_path, "csv")
    samples = read_table(TrainingTableConfig(table=path.name, **roles), base=tmp_path)
    batch = SampleDataset(samples, student=Geometry(4, 4, "squash", "bilinear")).batch(range(5), [0] * 5)
    assert batch.captioned.tolist() == samples.captioned.tolist()
    groups = batch.text_group.numpy()
    assert groups[0] == groups[2] != groups[1]
    assert len(np.unique(groups[~samples.captioned])) == 3
