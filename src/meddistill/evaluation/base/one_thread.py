"""Linear algebra on one thread, for many small products between which threads would wait for one another."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """Within it the libraries that are loaded at its first use have one thread.

    They are looked for once: that takes longer than a small fit.
    """
    limiter: AbstractContextManager[Any] = _pools().limit(limits=1)
    return limiter


@cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
