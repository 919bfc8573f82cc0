"""Links inside a tar shard: where the bytes lie that a second name stands for."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from meddistill.files import printable

_MOST_HOPS = 40  # as the kernel follows links
_DEREFERENCE = "Pack it with `tar --dereference`, which stores the files themselves."


class ShardRefusedError(Exception):
    """A shard that cannot be read by offset; caught in this room, a line of a TableError."""


@dataclass(frozen=True)
class Link:
    """A name of a shard that stands for another one, at `row` of its index."""

    row: int
    name: str


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Every member of a plain tar, and where the next one begins; none of them is kept in memory."""
    with tarfile.open(path, "r:", errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            cast(Any, tar).members.clear()  # or all of them stay in memory
            yield member, tar.offset


def places_of(path: Path, links: Sequence[Link]) -> list[tuple[int, int]]:
    """Start and size of the bytes that each link leads to, for hard links and symbolic ones in the tar.

    Raises ShardRefusedError for a link that leads out of the tar, in a circle, or to what is no plain file.
    """
    tree = _Tree.of(path)
    return [tree.place(link.name) for link in links]


@dataclass(frozen=True)
class _Tree:
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    sparse: set[str] = field(default_factory=set)
    hard: dict[str, str] = field(default_factory=dict)
    symbolic: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> "_Tree":
        tree = cls()
        for member, _ in members(path):
            name = plain(member.name)
            if member.issym():
                tree.symbolic[name] = member.linkname
            elif member.islnk():
                tree.hard[name] = plain(member.linkname)
            elif member.issparse():
                tree.sparse.add(name)
            elif member.isreg():
                tree.files[name] = (member.offset_data, member.size)
        return tree

    def place(self, name: str) -> tuple[int, int]:
        target, hops = self._real(plain(name)), 0
        while target not in self.files and target in self.hard and hops < _MOST_HOPS:
            target, hops = self._real(self.hard[target]), hops + 1
        if target in self.sparse:
            raise refused(SPARSE, name)
        if target not in self.files:
            msg = ("a link that leads to no file of the tar", _DEREFERENCE)
            raise refused(msg, name)
        return self.files[target]

    def _real(self, name: str) -> str:
        """The name with every symbolic link on its way followed."""
        done: list[str] = []
        waiting = name.split("/")[::-1]
        hops = 0
        while waiting:
            part = waiting.pop()
            if part == ".." and done:
                done.pop()
            elif part == "..":
                raise refused(_OUTSIDE, name)
            elif part not in {"", "."}:
                done.append(part)
            target = self.symbolic.get("/".join(done))
            if target is None:
                continue
            hops += 1
            if target.startswith("/") or hops > _MOST_HOPS:
                raise refused(_OUTSIDE if hops <= _MOST_HOPS else _CIRCLE, name)
            done.pop()
            waiting.extend(target.split("/")[::-1])
        return "/".join(done)


SPARSE = ("a sparse file", "Pack it without `--sparse`.")
DEVICE = ("a device or a pipe", "Leave it out of the tar.")
_OUTSIDE = ("a link that leads out of the tar", _DEREFERENCE)
_CIRCLE = ("a link that leads in a circle", "Leave it out of the tar.")


def refused(why: tuple[str, str], name: str) -> ShardRefusedError:
    """The refusal of a member by what it is and what helps."""
    what, do = why
    return ShardRefusedError(f"must hold plain files; got {what}, `{printable(name)}`. {do}")


def plain(name: str) -> str:
    """A member's name inside its tar: from the root, with `..` followed as far as that, as tar unpacks it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)
