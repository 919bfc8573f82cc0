"""Bad samples and bad shards: all at once, by shard and key; packed, cut and joined tars by name."""

import gzip
import io
import tarfile

import pytest
from shard_writing import picture, sample, write_shard, write_shards, write_tar
from table_files import read

from meddistill.errors import TableError

ROLES = {"text": "txt", "patient": "patient"}


def mistakes(path, **named):
    with pytest.raises(TableError) as caught:
        read(path, **named)
    return list(caught.value.mistakes)


@pytest.fixture
def bad(tmp_path):
    """Rows 1 and 9 are good."""

    def without(number, *kinds, **changed):
        key, content = sample(number)
        return key, {kind: each for kind, each in {**content, **changed}.items() if kind not in kinds}

    write_shard(
        tmp_path / "a.tar",
        [
            sample(0),
            without(1, "txt"),
            without(2, "png"),
            without(3, "json"),
            without(4, jpg=picture(40)),
            without(5, json="{no"),
            without(6, json="[]"),
        ],
    )
    write_shard(
        tmp_path / "b.tar",
        [
            without(7, json={"patient": ["p1", "p2"]}),
            sample(8, __key__="0008"),
            sample(9, __key__="0010"),
            sample(0),
            without(11, json={}),
            without(12, txt=b"l\xe9sion"),
        ],
    )
    with tarfile.open(tmp_path / "b.tar", "a") as tar:
        tar.add(write_tar(tmp_path / "x", []), "0012.png")
    return tmp_path


def test_all_mistakes_of_samples_come_at_once(bad):
    assert mistakes(bad, **ROLES) == [
        "row 2 (shard a.tar, sample '0001'): `txt` must hold a caption; got an empty one.",
        "row 3 (shard a.tar, sample '0002'): `image` must be an image of the sample; "
        "got none among its files (`txt`, `json`).",
        "row 4 (shard a.tar, sample '0003'): the row must have a `json` like others; got `png`, `txt`. "
        "Pack it anew.",
        "row 5 (shard a.tar, sample '0004'): `image` must be one image of the sample; "
        "got several (`png`, `txt`, `json`, `jpg`). Name one kind: `image: png`.",
        "row 6 (shard a.tar, sample '0005'): the row must hold a `json` that is JSON in UTF-8; it is none. "
        "Pack it anew.",
        "row 7 (shard a.tar, sample '0006'): the row must hold one object in `json`; got a list. "
        "Pack it anew.",
        "row 8 (shard b.tar, sample '0007'): the row must hold one plain value in `patient`; got a list. "
        "Choose one.",
        "row 10 (shard b.tar, sample '0009'): the row must have a `json` of its own; "
        "got one with the `__key__` of another. Pack it anew.",
        "row 11 (shard b.tar, sample '0000'): the row must have a key of its own; "
        "got that of row 1 (shard a.tar, sample '0000'). Pack it under another name.",
        "row 12 (shard b.tar, sample '0011'): `patient` must name a patient; "
        "got a blank, with which splits could leak.",
        "row 13 (shard b.tar, sample '0012'): the row must have one `png`; got 2. Pack it once.",
    ]


def test_skip_drops_them_and_keeps_the_rest(bad):
    samples = read(bad, **ROLES, on_error="skip")
    assert samples.rows == (1, 9)
    assert len(samples.skipped) == 11


def test_captions_that_are_no_utf8_are_reported(tmp_path):
    shard = write_shard(tmp_path / "s.tar", [("a", {"png": picture(1), "txt": b"l\xe9sion"})])
    (line,) = mistakes(shard, text="txt")
    assert line.startswith("row 1 (shard s.tar, sample 'a'): `txt` must be UTF-8; got byte 0xE9.")


def test_dots_in_the_names_of_dicom_files_are_explained(tmp_path):
    files = [(f"1.2.840.{number}.dcm", b"x") for number in range(9)]
    (line,) = mistakes(write_tar(tmp_path / "s.tar", files))
    assert "sample '1'): `image` must be one image of the sample; got several (`2.840.0.dcm`, " in line
    assert "and 3 more" in line


def test_an_unknown_column_is_named_with_those_there(tmp_path):
    shard = write_shard(tmp_path / "s.tar", [sample(0)])
    has = "`__key__`, `image`, `png`, `txt`, `json`, `patient`, `modality`"
    assert mistakes(shard, text="captoin", patient="patiend") == [
        f"`text` must name a column; got `captoin`, the table has {has}. Name one of them.",
        f"`patient` must name a column; got `patiend`, the table has {has}. Did you mean `patient`?",
    ]


def test_a_column_that_is_a_file_and_a_field_is_refused(tmp_path):
    shard = write_shard(tmp_path / "s.tar", [("a", {"png": picture(1), "txt": "a", "json": {"txt": "b"}})])
    (line,) = mistakes(shard, text="txt", patient="who")
    assert line.startswith("`table` must name a column once; got `txt` as files and as fields of `.json`.")


@pytest.fixture
def whole(tmp_path):
    return write_shards(tmp_path, shards=3, samples=4)


def test_bad_shards_are_all_named(whole):
    first, second, third = whole
    first.write_bytes(first.read_bytes()[:3000])
    third.write_bytes(gzip.compress(third.read_bytes()))
    lines = mistakes(second.parent, **ROLES)
    assert len(lines) == 2
    assert lines[0].startswith("shard train-000.tar: the file must be a whole tar; got one that is cut")
    assert lines[1].startswith("shard train-002.tar: the file must be a plain tar, for samples are read from")
    assert "got one packed with gzip. Unpack it" in lines[1]


def _ends(content):
    """Where a tar may be cut: between the files, and inside each header, file and padding."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
    for member in members:
        yield from (member.offset, member.offset + 100, member.offset_data, member.offset_data + 1)
        yield member.offset_data + member.size
    yield members[-1].offset_data + (members[-1].size + 511) // 512 * 512


def test_a_tar_that_was_cut_anywhere_is_found(whole):
    shard = whole[0]
    content = shard.read_bytes()
    for end in _ends(content):
        shard.write_bytes(content[:end])
        (line,) = mistakes(shard, **ROLES)
        shown = ("must be a whole tar", "must end with a block of zeros", "less than a header")
        assert any(each in line for each in shown), end


def test_a_damaged_header_is_not_taken_for_the_end(whole):
    shard = whole[0]
    content = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        place = tar.getmembers()[4].offset
    content[place + 3] ^= 0xFF
    shard.write_bytes(content)
    (line,) = mistakes(shard, **ROLES)
    assert "must end with a block of zeros" in line
    assert "after 4 files" in line


def test_two_tars_in_one_file_are_refused(whole):
    first, second, _ = whole
    first.write_bytes(first.read_bytes() + second.read_bytes())
    (line,) = mistakes(first, **ROLES)
    assert "must be one tar; got something behind its end" in line


def test_a_tar_without_samples_is_refused(tmp_path):
    assert mistakes(write_tar(tmp_path / "s.tar", [("README", "x")])) == [
        "`table` must have rows; got no samples. Add rows."
    ]
