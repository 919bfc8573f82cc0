import ctypes
import resource
import sys

import pytest

from forked import Forked
from meddistill.allocator import keep_freed_memory

BLOCK = 64 * 2**20


def use_blocks() -> int:
    """Exit code 0 where blocks that follow each other cost the page faults of one."""
    keep_freed_memory()
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        block = libc.malloc(BLOCK)
        ctypes.memset(block, 1, BLOCK)
        libc.free(block)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return int(faults > 1.5 * BLOCK / resource.getpagesize())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of Linux")
def test_freed_memory_is_used_again() -> None:
    code, _, error = Forked(use_blocks).ended()
    assert code == 0, error
