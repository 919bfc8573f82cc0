"""Passes that leave no trace in running statistics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor


class _HasBuffers(Protocol):
    def buffers(self) -> Iterator[Tensor]: ...


@contextmanager
def unchanged_buffers(student: _HasBuffers) -> Iterator[None]:
    """Put the buffers back, whatever happens within."""
    buffers = list(student.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            # Past autograd, which would take it for a change of what an earlier pass has saved; a backward
            # pass of training does not read running statistics.
            buffer.data.copy_(value)
