"""What a process does with memory that it frees.

glibc gives every large block back to the kernel when it is freed and asks for it anew, as zeroed pages, when
the next layer wants as much. On a CPU a network's step then spends up to half of its time in page faults.
"""

import ctypes
import sys
from functools import cache
from typing import Final

# Of <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_NEVER_TRIM: Final = -1


@cache
def keep_freed_memory() -> None:
    """Let this process, and what is forked from it, use freed memory again instead of giving it back.

    Its resident memory stays at its peak until it ends. For glibc alone; elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
