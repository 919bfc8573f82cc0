"""What was met in place of a file, and that nothing is called damaged that was not shown to be."""

import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddistill.cli.exit_codes import OURS, USERS, guarded
from meddistill.data.arrow_files import why_not_parquet
from meddistill.data.known.arrays import StoredArray
from meddistill.errors import TableError, TeacherError
from meddistill.file_kinds import met, unreadable, why_not_json
from meddistill.teachers.adapted import read_json

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605247071\n"
CLAIMS = ("damaged", "truncated", "whole", "corrupt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "0 bytes"),
        (POINTER, f"a Git LFS pointer of {len(POINTER)} bytes"),
        (b"/annex/objects/SHA256E-s6--a.bin\n", "a git-annex pointer"),
        (b"\xef\xbb\xbf <!doctype HTML>", "an HTML page"),
        (b"<?xml version='1.0'?>", "an XML page"),
        (b'[{"a": 1}]', "JSON"),
        (b"some words", "text"),
        (b"\x1f\x8b\x08\x00", "gzip data"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x00\x01\x02", "another kind of file"),
    ],
)
def test_kinds_are_known_by_their_first_bytes(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "file").write_bytes(content)
    found = str(met(tmp_path / "file"))
    assert found.startswith(what)
    assert found.endswith(".")
    assert not any(claim in found for claim in CLAIMS)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("../blobs/gone")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, what in {
        "gone": "no such file",
        "link": "a link to a file that is not there",
        ".": "a folder",
        "pipe": "a device, a pipe",
        "loop": "Too many levels of symbolic links",
    }.items():
        assert str(met(tmp_path / name)).startswith(what)


JSON = [
    (b'{"a": 1', "no JSON"), (b"{'a': 1}", "no JSON"), (b"", "0 bytes"), (POINTER, "Git LFS pointer"),
    (b"<html>", "HTML page"), (b"\xff\xfe{", "no UTF-8"), (b"[" * 100_000, "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "what"), JSON)
def test_json_that_is_none(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises((ValueError, RecursionError)) as caught:
        json.loads(path.read_text(encoding="utf-8"))
    assert what in str(why_not_json(path, caught.value))
    with pytest.raises(TeacherError, match=what) as refused:
        read_json(path, what="the model's description")
    assert "again" not in str(refused.value) or not content


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3]}), path)
    whole = path.read_bytes()
    for content, what in ((whole[:-6], "without its end"), (POINTER, "Git LFS"), (b"a,b\n1,2\n", "text")):
        path.write_bytes(content)
        assert what in str(why_not_parquet(path, ValueError("x")))
    path.write_bytes(whole)
    found = str(why_not_parquet(path, pa.ArrowNotImplementedError("Support for codec 'lzo' not built")))
    assert "Support for codec 'lzo' not built" in found
    assert not any(claim in found for claim in CLAIMS)


def test_arrays_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((40, 8, 8), np.uint8))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[600] ^= 1
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x09\x00")
    for content, what in (
        (whole[:500], "a zip archive without its end"),
        (POINTER, "Git LFS"),
        (b"<html>", "HTML page"),
        (bytes(flipped), "damaged contents"),
        ((tmp_path / "other.npz").read_bytes(), r"version \(9, 0\) of the format"),
    ):
        path.write_bytes(content)
        with pytest.raises(TableError, match=what):
            list(StoredArray.open(path, "images"))


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, USERS),
        (errno.EIO, USERS),
        (errno.ESTALE, USERS),
        (errno.EMFILE, USERS),
        (errno.EBADF, OURS),
    ],
)
def test_refusals_of_the_system_are_told_in_its_words(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def call() -> None:
        raise OSError(number, os.strerror(number), "/data/store/shard")

    assert guarded(call, usage_error=KeyError) == code
    said = capsys.readouterr().err
    assert os.strerror(number) in said
    assert ("Traceback" in said) == (code == OURS)
    assert unreadable(OSError(number, "")).what == os.strerror(number)
