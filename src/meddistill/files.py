"""Files that are whole or absent, contents that tell when they were damaged, refusals to write in words."""

import atexit
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

from meddistill.errors import UserError

SEAL: Final = "seal"
_AGAIN: Final = "and give the same command again: what is finished is kept."
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM: Final = (*_FULL, errno.EFBIG)
# What CIFS and SMB shares, DrvFs and many FUSE mounts answer where a folder is to be made durable.
_NOT_FOR_FOLDERS: Final = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS)
# How Rust libraries, safetensors among them, quote the operating system.
_QUOTED: Final = re.compile(r"\(os error (\d+)\)")


def is_disk_full(refusal: OSError) -> bool:
    """Whether the operating system refused for want of room: a full disk, a quota, a limit of file sizes."""
    return refusal.errno in _NO_ROOM


def describe_os_error(place: Path, refusal: OSError) -> str:
    """What the operating system refused at `place`, and what to do."""
    # By the number: pyarrow puts words of its own before those of the system.
    got = os.strerror(refusal.errno) if refusal.errno else refusal
    if refusal.errno in _FULL:
        return f"`{place}` must lie on a disk with room; got: {got}. Free some space {_AGAIN}"
    if refusal.errno == errno.EFBIG:
        return (
            f"`{place}` must be no larger than files may be there; got: {got}. Raise the limit (`ulimit -f`) "
            f"or choose another disk {_AGAIN}"
        )
    return f"`{place}` must be writable; got: {got}. Mend that {_AGAIN}"


@contextmanager
def writing(place: Path, error: type[UserError] = UserError) -> Iterator[None]:
    """Turn the operating system's refusals to write at `place` into `error`, which says what to do."""
    try:
        yield
    except OSError as refusal:
        raise error(describe_os_error(place, refusal)) from refusal


@contextmanager
def needing_room(place: Path, error: type[UserError] = UserError) -> Iterator[None]:
    """Turn refusals for want of room at `place` into `error`; for work that does more than write there."""
    try:
        yield
    except OSError as refusal:
        if not is_disk_full(refusal):
            raise
        raise error(describe_os_error(place, refusal)) from refusal


@contextmanager
def reraise_os_error(library_error: type[Exception]) -> Iterator[None]:
    """Raise the operating system's own refusal where a library hides it in a `library_error`."""
    try:
        yield
    except library_error as error:
        refusal = _refusal_in(error)
        if refusal is None:
            raise
        raise refusal from error


def _refusal_in(error: BaseException) -> OSError | None:
    quoted = _QUOTED.search(str(error))
    if quoted:
        return OSError(int(quoted[1]), os.strerror(int(quoted[1])))
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, OSError) else None


def printable(text: str) -> str:
    """A name with escapes for bytes that are no UTF-8, which Python holds as lone surrogates (PEP 383)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def utf8_alias(path: Path) -> Path:
    """The path itself, or a link to it under a name in UTF-8, for libraries that take no other names.

    The link is gone when the process ends.
    """
    if printable(str(path)) == str(path):
        return path
    link = _aliases() / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    link.symlink_to(path.absolute())
    return link


@cache
def _aliases() -> Path:
    folder = tempfile.mkdtemp(prefix="meddistill-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def part_of(path: Path) -> Path:
    """Where the unfinished content of `path` is written."""
    return path.with_name(f".{path.name}.part")


def write_whole(path: Path, content: bytes, *, error: type[UserError] = UserError) -> None:
    """Replace `path` by `content`; a reader sees the old or the new content, never a part.

    Folders above it are made. Raises `error` where the operating system refuses; nothing new is left then.
    """
    with writing(path, error), file_aside(path) as part:
        part.write_bytes(content)


@contextmanager
def file_aside(path: Path, *, part: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """A file to be written beside `path` that takes its place when all went well, and is removed when not.

    Folders above it are made. `part`: its name, by default one that no other process has. `durable` waits
    until it would survive a power cut.
    """
    # A name of its own: several extractions may enter the same step of a run at once.
    part = part or part_of(path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if durable:
            sync_file(part)
        part.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def folder_aside(folder: Path, *, replace: bool = True) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when all went well, and is removed when not.

    A reader sees the old folder, the new one or none, never half of one. Without `replace` only an empty
    folder gives way; another one is an OSError.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.is_dir():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_changed(path: Path, content: bytes) -> None:
    """Like `write_whole`; a file that holds this content already is left alone, its time with it."""
    if not (path.is_file() and path.read_bytes() == content):
        write_whole(path, content)


def follow_umask(path: Path) -> None:
    """Give a file the permissions of one that is newly made beside it.

    For files that others make for their owner alone (mode 0600), as safetensors and `mkstemp` do: whoever may
    read a folder's other files may read these. By such a file and not by `os.umask`, which would change the
    umask of all threads for a moment.
    """
    usual = part_of(path.with_name(f"{path.name}-{uuid.uuid4().hex[:8]}"))
    try:
        usual.touch()
        shutil.copymode(usual, path)
    finally:
        usual.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where its file system can do that for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as refusal:
        if refusal.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sealed(content: Mapping[str, Any], *, name: str = "") -> dict[str, Any]:
    """Plain values with a hash of themselves (and of `name`) under `seal`."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return {**plain, SEAL: _seal(plain, name)}


def unsealed(content: Any, *, name: str = "") -> dict[str, Any] | None:
    """The values that were sealed; None where anything of them, or the seal, is not as it was written."""
    if not isinstance(content, dict):
        return None
    plain = {key: value for key, value in content.items() if key != SEAL}
    return plain if content.get(SEAL) == _seal(plain, name) else None


def _seal(content: Any, name: str) -> str:
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()
