"""Writing and syncing: what a file system refuses for folders alone is no mistake."""

import errno
import os
import stat

import pytest

from meddistill.errors import UserError
from meddistill.files import write_whole


def refusing(monkeypatch, number, *, folders):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def test_folders_that_cannot_be_synced_are_written_to_all_the_same(tmp_path, monkeypatch, number):
    refusing(monkeypatch, number, folders=True)
    write_whole(tmp_path / "x/a.json", b"{}")
    assert (tmp_path / "x/a.json").read_bytes() == b"{}"


@pytest.mark.parametrize(("number", "folders"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_other_refusals_and_those_of_files_are_told(tmp_path, monkeypatch, number, folders):
    refusing(monkeypatch, number, folders=folders)
    with pytest.raises(UserError, match="must be writable"):
        write_whole(tmp_path / "a.json", b"{}")
