"""What lies at a path in place of the file that was meant: other kinds, pointers, pages, links.

A reader that cannot read a file says what it met and what helps in its case. Only a hash, a length, a missing
end or a decoder's own word of corruption shows that a file is damaged; nothing here says so.
"""

import errno
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meddistill.errors import one_line

_HEAD: Final = 1024
_AGAIN: Final = "Fetch or copy it again."
_ANEW: Final = "Mend it, or take it anew from where it came from."
_UNPACK: Final = "Unpack it."
_PAGE: Final = "Fetch the file itself, signed in and with its terms accepted where it is gated."
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip data", _UNPACK),
    (b"BZh", "bzip2 data", _UNPACK),
    (b"\xfd7zXZ\0", "xz data", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd data", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"PK\x03\x04", "a zip archive", ""),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", ""),
    (b"\x93NUMPY", "a numpy array", ""),
    (b"PAR1", "a Parquet file", ""),
    (b"GGUF", "a GGUF file", ""),
    (b"%PDF", "a PDF", ""),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", ""),
    (b"\xff\xd8\xff", "a JPEG picture", ""),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file", ""),
    (b"SQLite format 3\0", "an SQLite database", ""),
)
_MARKUP: Final = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error", b"<!--")


@dataclass(frozen=True)
class Met:
    """What a file is, as `got …` has it, and what helps whoever wanted another kind."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}".rstrip()


def met(path: Path, *, otherwise: str = "another kind of file", do: str = "Name the right file.") -> Met:
    """What lies at `path`; `otherwise` and `do` where its first bytes are those of no known kind.

    Never raises: what the operating system refuses is told as what was met.
    """
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            return Met("a folder", "Name a file in it.")
        if not stat.S_ISREG(state.st_mode):
            return Met("a device, a pipe or a socket", "Name a plain file.")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError):
        return absent(path)
    except OSError as refusal:
        return unreadable(refusal)
    kind = stand_in(head, size=state.st_size) or _known(head)
    return Met(kind.what, kind.remedy or do) if kind else Met(otherwise, do)


def absent(path: Path) -> Met:
    """Nothing at a path, or a link whose file was left behind: a cache copied without what it points to."""
    if path.is_symlink():
        return Met(
            "a link to a file that is not there",
            "Copy the folder with what its links lead to (`cp -rL`), or fetch the file again.",
        )
    return Met("no such file", "Mend the path.")


def unreadable(refusal: OSError, *, which: str = "") -> Met:
    """What the operating system said when a file was to be read; `which` names it where that is unclear."""
    what = f"{_reason(refusal)}{which}"
    if isinstance(refusal, PermissionError):
        return Met(what, "Mend its permissions, or run as who may use it.")
    if refusal.errno in (errno.EMFILE, errno.ENFILE):
        return Met(what, "Raise the limit of open files (`ulimit -n`).")
    return Met(what, "Mend that and try again.")


def why_not_json(path: Path, error: Exception) -> Met:
    """What keeps a file from being JSON, when reading raised OSError, ValueError or RecursionError."""
    if isinstance(error, OSError):
        return met(path) if path.is_dir() or not path.exists() else unreadable(error)
    kind = met(path)
    if isinstance(error, json.JSONDecodeError) and kind.what in {"JSON", "text", "another kind of file"}:
        where = f"line {error.lineno}, column {error.colno}"
        return Met(f"text that is no JSON ({error.msg}: {where})", _ANEW)
    if isinstance(error, UnicodeDecodeError) and kind.what == "another kind of file":
        return Met("bytes that are no UTF-8", _ANEW)
    return Met("JSON that is nested too deeply", _ANEW) if isinstance(error, RecursionError) else kind


def stand_in(head: bytes, *, size: int) -> Met | None:
    """What was stored where a file should be: nothing, a pointer of Git, a server's page; None for others."""
    if not head:
        return Met("0 bytes", _AGAIN)
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return Met(
            f"a Git LFS pointer of {size} bytes, not the file",
            "Fetch the file with `git lfs pull` in its repository.",
        )
    if size < _HEAD and b"/annex/objects/" in head:
        return Met(
            f"a git-annex pointer of {size} bytes, not the file",
            "Fetch the file with `git annex get` in its repository.",
        )
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_MARKUP):
        page = "an XML page" if start.startswith((b"<?xml", b"<error")) else "an HTML page"
        return Met(f"{page}, as a server sends in place of a file", _PAGE)
    return None


def is_text(head: bytes) -> bool:
    """Whether bytes are UTF-8 without control characters; a character cut at the end does not count."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def _known(head: bytes) -> Met | None:
    for magic, what, remedy in _MAGIC:
        if head.startswith(magic):
            return Met(what, remedy)
    if head[257:262] == b"ustar":
        return Met("a tar archive", _UNPACK)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) and is_text(head):
        return Met("JSON", "")
    return Met("text", "") if is_text(head) else None


def _reason(refusal: OSError) -> str:
    return os.strerror(refusal.errno) if refusal.errno else one_line(refusal)
