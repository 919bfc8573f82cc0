"""Tar shards as tables: the same samples, keys and pixels as the same files lying loose."""

import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shard_writing import as_bytes, picture, sample, unpack, write_shard, write_shards, write_tar
from table_files import read, write_csv

import webdataset
from meddistill.data.config import TableConfig
from meddistill.data.keys import image_keys
from meddistill.data.samples import UNKNOWN_PATIENT
from meddistill.data.table import read_table
from meddistill.data.unreadable import read_readable
from meddistill.errors import TableError
from meddistill.imaging import decode

ROLES = {"text": "txt", "patient": "patient", "modality": "modality", "id": "__key__"}
LONG = "a-name-that-is-longer-than-the-hundred-bytes-of-the-oldest-tar-header/" * 3


def test_samples_are_those_of_the_loose_files(tmp_path):
    shards = write_shards(tmp_path / "shards")
    loose = unpack(shards, tmp_path / "loose")
    rows = [
        {
            "image": f"{i:04d}.png",
            "txt": f"caption {i}",
            "patient": f"p{i // 2}",
            "modality": "ct",
            "id": f"{i:04d}",
        }
        for i in range(6)
    ]
    expected = read(write_csv(loose / "t.csv", rows), **{**ROLES, "id": "id"})
    found = read(tmp_path / "shards", **ROLES)
    for name in ("texts", "ids", "patients", "modalities", "rows"):
        assert getattr(found, name) == getattr(expected, name), name
    assert image_keys(found) == image_keys(expected)
    for part, file in zip(found.refs, expected.refs, strict=True):
        assert np.array_equal(decode(part), decode(file))


def test_samples_are_those_of_the_webdataset_library(tmp_path):
    files = [
        ("b/0002.png", picture(2)),
        ("b/0002.TXT", "two"),
        ("a.dir/0001.left.png", picture(1)),
        ("a.dir/0001.txt", "one"),
        ("__meta__/x.json", "{}"),
        ("no-kind", "x"),
        ("ä/köpf.png", picture(3)),
        ("ä/köpf.txt", "drei"),
        (f"{LONG}n.png", picture(4)),
        (f"{LONG}n.txt", "four"),
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        shard = write_tar(tmp_path / f"{form}.tar", files, form=form)
        samples = read(shard, text="txt", id="__key__")
        expected = list(webdataset.WebDataset(str(shard), shardshuffle=False))
        assert samples.ids == tuple(each["__key__"] for each in expected)
        assert samples.texts == tuple(each["txt"].decode() for each in expected)
        images = [each.get("png") or each["left.png"] for each in expected]
        assert [ref.path.read_bytes() for ref in samples.refs] == images


def test_columns_are_kinds_and_fields(tmp_path):
    fields = {"view": "PA", "age": 61.0, "n": 3, "none": None, "flag": True}
    kinds = {"seg.png": picture(1), "png": picture(0), "cls": "7\n", "json": fields}
    shard = write_shard(tmp_path / "s.tar", [("x", kinds)])
    samples = read(shard, image="png", columns=["view", "age", "n", "none", "flag", "cls", "__key__"])
    assert samples.refs[0].path.read_bytes() == picture(0)
    assert {name: cells[0] for name, cells in samples.columns.items()} == {
        "view": "PA",
        "age": "61",
        "n": "3",
        "none": "",
        "flag": "True",
        "cls": "7",
        "__key__": "x",
    }
    assert read(shard, image="seg.png").refs[0].path.read_bytes() == picture(1)


def test_lists_of_a_field_are_joined_where_they_are_asked_for(tmp_path):
    shard = write_shard(tmp_path / "s.tar", [sample(0, teachers=["a", "b"])])
    config = TableConfig(table=shard.name)
    samples = read_table(config, base=tmp_path, columns=["teachers"], lists=["teachers"])
    assert samples.columns["teachers"] == ("a|b",)


def test_rows_are_chosen_by_fields(tmp_path):
    shard = write_shard(tmp_path / "s.tar", [sample(i, split="ab"[i % 2]) for i in range(5)])
    assert read(shard, where={"split": "b"}).rows == (2, 4)


def test_files_that_systems_leave_in_archives_are_ignored(tmp_path):
    files = [
        (".", ""),
        ("./0001.png", picture(1)),
        ("./._0001.png", "x"),
        ("__MACOSX/._0001.png", "x"),
        (".DS_Store", "x"),
        ("__index__.json", "{}"),
        ("./0001.txt", "\ufeffone"),
    ]
    samples = read(write_tar(tmp_path / "s.tar", files), text="txt", id="__key__")
    assert (samples.ids, samples.texts) == (("0001",), ("one",))


def test_files_of_a_sample_need_not_be_neighbours(tmp_path):
    files = [("a.png", picture(1)), ("b.png", picture(2)), ("b.txt", "two"), ("a.txt", "one")]
    samples = read(write_tar(tmp_path / "s.tar", files), text="txt", id="__key__")
    assert (samples.ids, samples.texts) == (("a", "b"), ("one", "two"))


def test_the_table_hash_follows_the_samples_not_the_folder_or_the_offsets(tmp_path):
    hashes = [read(write_shards(tmp_path / name)[0].parent, **ROLES).table_hash for name in "ab"]
    assert hashes[0] == hashes[1]
    files = [("0.txt", "behind"), ("0.png", picture(0))]
    ordered = read(write_tar(tmp_path / "c/s.tar", files), text="txt")
    other = read(write_tar(tmp_path / "d/s.tar", files[::-1]), text="txt")
    renamed = read(write_tar(tmp_path / "e/s.tar", [(f"1.{n[2:]}", c) for n, c in files]), text="txt")
    assert ordered.refs[0].path.start != other.refs[0].path.start
    assert ordered.table_hash == other.table_hash != renamed.table_hash


def test_rows_without_a_patient_are_patients_by_their_file(tmp_path):
    shards = write_shards(tmp_path)
    patients = read(shards[0].parent, text="txt").patients
    assert len(set(patients)) == 6
    assert all(each.startswith(UNKNOWN_PATIENT) for each in patients)


def test_names_that_are_no_utf8_are_read_and_reported_as_ids(tmp_path):
    shard = write_tar(tmp_path / "s.tar", [("l\udce9sion.png", picture(0))], form=tarfile.GNU_FORMAT)
    assert decode(read(shard).refs[0]).shape == (9, 12, 3)
    with pytest.raises(
        TableError, match=r"sample 'l\\\\udce9sion'\): `__key__` must be UTF-8; got byte 0xE9"
    ):
        read(shard, id="__key__")


def test_dicom_and_nifti_in_shards_are_selected_as_loose_ones(tmp_path):
    pages = [np.full((4, 4), grey, np.uint8) for grey in (0, 99)]
    Image.fromarray(pages[0]).save(
        tmp_path / "p.tif", save_all=True, append_images=[Image.fromarray(pages[1])]
    )
    content = (tmp_path / "p.tif").read_bytes()
    samples = [(f"{page}", {"tif": content, "json": {"page": page}}) for page in (1, 0)]
    found = read(write_shard(tmp_path / "s.tar", samples), frame="page")
    assert [int(decode(ref)[0, 0, 0]) for ref in found.refs] == [99, 0]


def test_a_copy_in_another_process_and_many_threads_read_the_same(tmp_path):
    write_shards(tmp_path, shards=3, samples=10)
    samples = pickle.loads(pickle.dumps(read(tmp_path / "train-{000..002}.tar", text="txt")))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda ref: ref.path.read_bytes(), samples.refs * 5))
    assert contents == [picture(number) for number in range(30)] * 5


def test_every_image_is_decoded_before_anything_is_trained(tmp_path):
    shards = write_shards(tmp_path)
    cut = ("0009", {"png": picture(9)[:60], "txt": "cut"})
    write_shard(shards[1], [sample(8), cut])
    with pytest.raises(TableError) as caught:
        read_readable(TableConfig(table="*.tar", text="txt"), base=tmp_path)
    assert len(caught.value.mistakes) == 1
    assert caught.value.mistakes[0].startswith("row 5: `")
    assert "train-001.tar/0009.png` must be a whole PNG" in caught.value.mistakes[0]


def test_as_bytes_is_what_stands_in_the_tar(tmp_path: Path):
    shard = write_shard(tmp_path / "s.tar", [sample(3)])
    with tarfile.open(shard) as tar:
        member = tar.extractfile("0003.json")
        assert member is not None
        assert member.read() == as_bytes(sample(3)[1]["json"])
