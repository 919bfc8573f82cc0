"""A name for a process that no other one on any machine has, and whether a named process still runs."""

import hashlib
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

NAME: Final = r"[0-9a-f]{16}-\d+-\d+"
_ZOMBIE: Final = "Z"


def own_name() -> str:
    """`<machine>-<process number>-<its start>`; the machine as a hash: no host name is written down."""
    return _name_of(os.getpid())


def runs_here(name: str) -> bool | None:
    """Whether the process that `name` begins with runs on this machine; None if it is of another one."""
    machine, number, start = name.split("-")[:3]
    if machine != _machine():
        return None
    return _start(int(number)) == start


@cache
def _name_of(number: int) -> str:
    return f"{_machine()}-{number}-{_start(number)}"


@cache
def _machine() -> str:
    """Of one boot and one space of process numbers: containers may share a host's name, not its numbers."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _start(number: int) -> str | None:
    """When a process started, in ticks since the boot; "0" where nothing tells; None if it is gone."""
    try:
        state, *rest = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() or not _answers(number) else "0"
    return None if state == _ZOMBIE else rest[18]


def _answers(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
