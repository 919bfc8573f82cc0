"""Processes of their own, forked from one that has imported the product once and has no threads."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from tempfile import NamedTemporaryFile
from typing import Any, Self

_SERVER = multiprocessing.get_context("forkserver")


class Forked:
    """`work(*arguments)` in a process of its own, with one thread; what it returns is its exit code.

    Within `with`, it is dead afterwards, whatever happened.
    """

    def __init__(self, work: Callable[..., int | None], *arguments: Any) -> None:
        self._out, self._err = (NamedTemporaryFile("r", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        places = self._out.name, self._err.name
        self._process = _SERVER.Process(target=_begin, args=(*places, work, arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        self._process.join()
        self._out.close()
        self._err.close()

    def send(self, number: int) -> None:
        """A signal, as long as it runs: afterwards its number may be another's."""
        if self.running:
            os.kill(self.pid, number)

    def ended(self, timeout: float = 240) -> tuple[int, str, str]:
        """Wait for its end: exit code, negative for a signal, and what it wrote to stdout and stderr."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, "it did not end"
        return code, self._out.read(), self._err.read()


def write_to(out: int, err: int) -> None:
    """Make these descriptors the stdout and stderr of this process."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))


def _begin(out: str, err: str, work: Callable[..., int | None], arguments: tuple[Any, ...]) -> None:
    write_to(os.open(out, os.O_WRONLY), os.open(err, os.O_WRONLY))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # A background job of a shell without job control ignores interrupts, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.fsync = lambda _: None
    raise SystemExit(work(*arguments))
