"""Files that are there whole or not at all: written aside, synced, hashed, renamed, then named in a manifest.

A manifest is JSON of the form `{"sha256": "<of the content's bytes>", "content": {...}}`, so that damage to
it is found when it is read, and is kept twice.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import Field

from meddistill.errors import StoreError, UserError
from meddistill.features.identity import NAME, own_name, runs_here
from meddistill.file_kinds import unreadable
from meddistill.files import file_aside, sha256_of, sync_folder, writing
from meddistill.strict import Strict

MANIFEST: Final = "manifest.json"
MANIFEST_COPY: Final = "manifest.copy.json"
_PART: Final = ".part"
_OPENING: Final = b'{"sha256": "'
_MIDDLE: Final = b'",\n"content": '
_CLOSING: Final = b"}\n"
_DIGEST_LENGTH: Final = 64
_PART_SECONDS: Final = 24 * 3600
_OWN: Final = re.compile(
    r"(images|texts|pairs)-\d{4}(\.copy)?\.parquet|(image|text|tokens|text_tokens)-\d{8}\.safetensors"
    r"|(statistics|availability)\.safetensors"
    rf"|\.[a-z]+[-.].*\.(?P<writer>{NAME})\.part"
)


class FileEntry(Strict):
    """A finished file as a manifest names it: its name in the manifest's folder, bytes and sha256."""

    file: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_./-]*$")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def copy_of(file: FileEntry) -> FileEntry:
    """The second file of the same content that is kept of each table."""
    name, _, suffix = file.file.rpartition(".")
    return file.model_copy(update={"file": f"{name}.copy.{suffix}"})


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `path` into StoreError."""
    with writing(path, StoreError):
        yield


def part_of(path: Path) -> Path:
    """Where this process writes the unfinished content of `path`."""
    return path.with_name(f".{path.name}.{own_name()}{_PART}")


def seal(path: Path) -> FileEntry:
    """Sync and hash the finished part of `path`."""
    part = part_of(path)
    with storing(path):
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        return FileEntry(file=path.name, bytes=part.stat().st_size, sha256=sha256_of(part))


def place(path: Path) -> None:
    """Give the sealed part of `path` its name. The caller enters it in a manifest."""
    with storing(path):
        part_of(path).replace(path)
        sync_folder(path.parent)


def commit(path: Path) -> FileEntry:
    """`seal` and `place`."""
    entry = seal(path)
    place(path)
    return entry


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `content`; a reader sees the old or the new content, never a part.

    `durable` waits until it would survive a power cut.
    """
    with storing(path), file_aside(path, part=part_of(path), durable=durable) as part:
        part.write_bytes(content)


def write_manifest(folder: Path, content: str) -> None:
    """Write `content` (JSON) as the folder's manifest, then as its copy."""
    body = content.encode()
    digest = hashlib.sha256(body).hexdigest().encode()
    whole = b"".join([_OPENING, digest, _MIDDLE, body, _CLOSING])
    write_whole(folder / MANIFEST, whole)
    write_whole(folder / MANIFEST_COPY, whole, durable=False)


def mend_copy(folder: Path) -> None:
    """Write the manifest's copy again if a broken-off write left an older one."""
    whole = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    copy = folder / MANIFEST_COPY
    if whole and not (copy.is_file() and copy.read_bytes() == whole):
        write_whole(copy, whole, durable=False)


def read_manifest(path: Path) -> bytes | None:
    """The content of a manifest file; None where it is absent or damaged."""
    try:
        whole = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as refusal:
        # No StoreError: nobody may take this for damage, and drop what is sound.
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise UserError(msg) from refusal
    start = len(_OPENING) + _DIGEST_LENGTH
    digest, middle = whole[len(_OPENING) : start], whole[start : start + len(_MIDDLE)]
    body = whole[start + len(_MIDDLE) : -len(_CLOSING)]
    framed = whole.startswith(_OPENING) and middle == _MIDDLE and whole.endswith(_CLOSING)
    if not framed or hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    return body


def remove_leftovers(folder: Path, *, keep: frozenset[str]) -> None:
    """Delete the store's own files of an interrupted write: those that no manifest names.

    Parts of a process that still runs stay; of a process of another machine nobody knows that, so parts
    younger than a day stay as well.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        own = _OWN.fullmatch(path.name)
        if own is None or path.name in keep or (own["writer"] and _may_be_written(path, own["writer"])):
            continue
        with storing(path):
            path.unlink(missing_ok=True)


def _may_be_written(part: Path, writer: str) -> bool:
    here = runs_here(writer)
    if here is None:
        return time.time() - part.stat().st_mtime < _PART_SECONDS
    return here and writer != own_name()
