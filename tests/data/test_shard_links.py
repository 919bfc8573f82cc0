"""Links in tar shards: read where the tar holds what they lead to, else refused with what helps."""

import io
import os
import tarfile

import pytest
from shard_writing import picture, write_tar
from table_files import read

from meddistill.data.shard_index import shard_index
from meddistill.errors import TableError
from meddistill.imaging import decode


def add(shard, name, *, kind, target="", form=tarfile.PAX_FORMAT, header=None):
    with tarfile.open(shard, "a", format=form, errors="surrogateescape") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.pax_headers = kind, target, header or {}
        tar.addfile(member)
    return shard


def refusal(shard):
    with pytest.raises(TableError) as caught:
        read(shard)
    (line,) = caught.value.mistakes
    return line


LONG = "d" * 150


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        (tarfile.LNKTYPE, "0002.png", "./a/0001.png"),
        (tarfile.LNKTYPE, f"{LONG}/0002.png", "a/0001.png"),
        (tarfile.SYMTYPE, "a/0002.png", "0001.png"),
        (tarfile.SYMTYPE, "b/c/0002.png", "../.././a/0001.png"),
        (tarfile.SYMTYPE, "0002.png", "latest/0001.png"),
        (tarfile.LNKTYPE, "0002.png", "blob"),
        (tarfile.SYMTYPE, "r\udcf8ntgen.png", "a/0001.png"),
    ],
)
def test_a_link_has_the_bytes_of_the_file_that_it_leads_to(tmp_path, form, kind, name, target):
    shard = write_tar(tmp_path / "s.tar", [("a/0001.png", picture(1)), ("a/0003.png", picture(3))], form=form)
    add(shard, "latest", kind=tarfile.SYMTYPE, target="a", form=form)
    add(shard, "blob", kind=tarfile.LNKTYPE, target="a/0001.png", form=form)
    add(shard, name, kind=kind, target=target, form=form)
    first, third, linked = (decode(ref).tolist() for ref in read(shard).refs)
    assert linked == first
    assert linked != third


def test_links_of_links_are_followed_and_do_not_depend_on_order(tmp_path):
    shard = add(write_tar(tmp_path / "s.tar", []), "1.png", kind=tarfile.SYMTYPE, target="2.png")
    add(shard, "2.png", kind=tarfile.SYMTYPE, target="3.png")
    whole = write_tar(tmp_path / "t.tar", [("3.png", picture(3))])
    with tarfile.open(whole) as tar, tarfile.open(shard, "a") as target:
        target.addfile(tar.getmember("3.png"), tar.extractfile("3.png"))
    one, two, three = (decode(ref).tolist() for ref in read(shard).refs)
    assert one == two == three


@pytest.mark.parametrize(
    ("kind", "target", "helps"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "--dereference"),
        (tarfile.SYMTYPE, "../secret.png", "--dereference"),
        (tarfile.SYMTYPE, "gone.png", "--dereference"),
        (tarfile.LNKTYPE, "gone.png", "--dereference"),
        (tarfile.SYMTYPE, "0002.png", "Leave it out"),
        (tarfile.FIFOTYPE, "", "Leave it out"),
        (tarfile.CHRTYPE, "", "Leave it out"),
    ],
)
def test_what_is_no_file_of_the_tar_is_refused_with_what_helps(tmp_path, kind, target, helps):
    shard = write_tar(tmp_path / "s.tar", [("0001.png", picture(1))])
    line = refusal(add(shard, "0002.png", kind=kind, target=target))
    assert "`0002.png`" in line
    assert helps in line


def test_the_remedy_for_links_out_of_the_tar_helps(tmp_path):
    (tmp_path / "0001.png").write_bytes(picture(1))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/0002.png").symlink_to("../0001.png")
    for dereference in (False, True):
        with tarfile.open(tmp_path / "s.tar", "w", dereference=dereference) as tar:
            tar.add(tmp_path / "d/0002.png", "0002.png")
        if not dereference:
            assert "tar --dereference" in refusal(tmp_path / "s.tar")
    assert len(read(tmp_path / "s.tar")) == 1


def test_sparse_files_are_refused_with_the_option_that_made_them(tmp_path):
    big = tmp_path / "0001.png"
    with big.open("wb") as file:
        file.truncate(1 << 20)
        file.write(picture(1))
    if os.system(f"cd {tmp_path} && tar --sparse -cf s.tar 0001.png 2>/dev/null"):
        pytest.skip("no GNU tar here")
    assert "--sparse" in refusal(tmp_path / "s.tar")


@pytest.mark.parametrize(
    ("content", "met"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>" + b" " * 600, "an HTML page"),
        (b"PK\x03\x04" + b"\0" * 600, "a zip archive"),
        (b"plain words " * 60, "text"),
        (b"\x01\x02\x03" * 300, "another kind of file"),
    ],
)
def test_another_kind_of_file_is_not_called_a_damaged_tar(tmp_path, content, met):
    (tmp_path / "s.tar").write_bytes(content)
    line = refusal(tmp_path / "s.tar")
    assert "must be a tar" in line
    assert met in line
    assert "damaged" not in line


@pytest.mark.parametrize(("first", "second"), [("../a/1.png", "../2.png"), ("b/../a/1.png", "/2.png")])
def test_names_that_lead_upwards_are_read_as_tar_unpacks_them(tmp_path, first, second):
    content = picture(1)
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as tar:
        member = tarfile.TarInfo(first)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    add(shard, second, kind=tarfile.LNKTYPE, target=first)
    rows = shard_index(shard, None).to_pylist()
    assert [row["key"] for row in rows] == [b"a/1", b"2"]
    assert rows[0]["start"] == rows[1]["start"]
