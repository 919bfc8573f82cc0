"""The files in a tar shard: what each is called, where it begins and how long it is."""

import os
import re
import tarfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from meddistill.data.arrow_files import parquet_file
from meddistill.data.shard_links import (
    DEVICE,
    SPARSE,
    Link,
    ShardRefusedError,
    members,
    places_of,
    plain,
    refused,
)
from meddistill.errors import one_line
from meddistill.file_kinds import met, unreadable
from meddistill.files import file_aside

FORMAT = b"1"
SCHEMA = pa.schema(
    [("key", pa.large_binary()), ("kind", pa.binary()), ("start", pa.int64()), ("size", pa.int64())]
)

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_META = re.compile(r"__.*__(\..*)?")
_BLOCK = tarfile.BLOCKSIZE
_MAGIC = slice(257, 262)
_LABEL = b"V"  # the name of a volume, as GNU tar stores it
_COPY = "Copy it again or pack it anew"


def shard_index(path: Path, folder: Path | None) -> pa.Table:
    """A row of SCHEMA for every file in the tar, in its order; paid for once if there is a `folder` for it.

    `key` is the path inside the tar up to the first dot of the file's name, `kind` what follows that dot, as
    the WebDataset format defines them; both are bytes, for a name need not be UTF-8. Ignored are folders,
    names without a dot, hidden files, and what lies in folders such as `__MACOSX`. Names of any length (PAX
    and GNU) are read; links to other files of the tar have the bytes of those.

    The index kept in `folder` belongs to the shard's path, size and times of change, and is made anew when
    one of them differs. Raises ShardRefusedError for a tar that is compressed, damaged, not closed, followed
    by another one, or holds sparse files, devices or links that lead out of it; OSError if it cannot be read.
    """
    if folder is None:
        return _scan(path)
    real = path.resolve()
    state = real.stat()
    place = folder / f"{sha256(os.fsencode(real)).hexdigest()[:32]}.parquet"
    # A tar is padded to 10 KiB and its time of change may be set; when its inode changed may not.
    state_now = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
    meant = {b"format": FORMAT, b"shard": state_now.encode()}
    kept = _kept(place, meant)
    if kept is None:
        kept = _scan(path).replace_schema_metadata(meant)
        _keep(kept, place)
    return kept


def _kept(place: Path, meant: dict[bytes, bytes]) -> pa.Table | None:
    try:
        table = parquet_file(place).read()
    except (OSError, ValueError, pa.ArrowException):
        return None
    known = (table.schema.metadata or {}).items() >= meant.items()
    return table if known and table.schema.equals(SCHEMA) else None


def _keep(table: pa.Table, place: Path) -> None:
    try:
        with file_aside(place, durable=False) as part:
            pq.write_table(table, part, compression="zstd")
    except OSError as error:
        rule = f"must have an `index` in a folder that can be written; got {unreadable(error).what}"
        msg = f"{rule}. Choose another folder, or leave `index` out."
        raise ShardRefusedError(msg) from None


def _scan(path: Path) -> pa.Table:
    _refuse_packed(path)
    keys: list[bytes] = []
    kinds: list[bytes] = []
    places: list[tuple[int, int]] = []
    links: list[Link] = []
    end = 0
    try:
        for member, end in members(path):  # noqa: B007
            named = None if member.isdir() or member.type == _LABEL else _split(member.name)
            if named is None:
                continue
            if member.issym() or member.islnk():
                links.append(Link(len(keys), member.name))
            elif member.issparse() or not member.isreg():
                raise refused(SPARSE if member.issparse() else DEVICE, member.name)
            keys.append(named[0].encode("utf-8", "surrogateescape"))
            kinds.append(named[1].encode("utf-8", "surrogateescape"))
            places.append((member.offset_data, member.size))
    except tarfile.TarError as error:
        raise _unreadable(path, error, files=len(keys)) from None
    _check_end(path, end, len(keys))
    for link, place in zip(links, places_of(path, links) if links else (), strict=True):
        places[link.row] = place
    starts, sizes = [start for start, _ in places], [size for _, size in places]
    return pa.table([keys, kinds, starts, sizes], schema=SCHEMA)


def _unreadable(path: Path, error: tarfile.TarError, *, files: int) -> ShardRefusedError:
    with path.open("rb") as file:
        named = file.read(_BLOCK)[_MAGIC] == b"ustar"
    if not (named or files):
        size = path.stat().st_size
        few = size < _BLOCK
        found = met(path, otherwise=f"{size} bytes, less than a header", do=f"{_COPY}.") if few else met(path)
        return ShardRefusedError(f"must be a tar; got {found}")
    rule = f"must be a whole tar; got one that is cut or damaged after {files:,} files ({one_line(error)})"
    return ShardRefusedError(f"{rule}. {_COPY}.")


def _split(name: str) -> tuple[str, str] | None:
    parts = plain(name).split("/")
    if any(part.startswith(".") or part == "__MACOSX" or _META.fullmatch(part) for part in parts):
        return None
    key, _, kind = "/".join(parts[-1:]).partition(".")
    return ("/".join([*parts[:-1], key]), kind) if key and kind else None


def _refuse_packed(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        msg = f"must be a whole tar; got 0 bytes. {_COPY}."
        raise ShardRefusedError(msg)
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            rule = "must be a plain tar, for samples are read from anywhere in it"
            msg = f"{rule}; got one packed with {name}. Unpack it to a .tar (images are compressed already)."
            raise ShardRefusedError(msg)


def _check_end(path: Path, end: int, files: int) -> None:
    """`tarfile` takes a damaged header, or a cut between two files, for the end; a tar ends with zeros."""
    with path.open("rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
        if len(mark) < _BLOCK or any(mark):
            rule = "must end with a block of zeros; got a damaged, truncated or never closed tar"
            msg = f"{rule}, after {files:,} files. {_COPY}."
            raise ShardRefusedError(msg)
        while rest := file.read(1 << 20):
            if any(rest):
                msg = "must be one tar; got something behind its end, such as a second tar. Pack them apart."
                raise ShardRefusedError(msg)
