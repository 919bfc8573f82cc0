"""Work on many files at once: decoding and hashing release the interpreter's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use, which in a container are fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def thread_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, advance: Callable[[int], None] | None = None
) -> list[Result]:
    """`work` of every item, in order, on a thread for each core; the first exception ends it.

    `advance` is called with 1 for every result, in the calling thread.
    """
    results = []
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="meddistill-data") as pool:
        for result in pool.map(work, items):
            results.append(result)
            if advance is not None:
                advance(1)
    return results


class Threads:
    """A thread for each core, started when first used and left behind when pickled to another process.

    `limit` 1 works in the calling thread.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_pool": None}

    def run(self, work: Callable[[int], None], items: Iterable[int]) -> None:
        """`work` of every item; the first exception ends it."""
        count = self._limit or available_cores()
        if count == 1:
            for item in items:
                work(item)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="meddistill-data")
        for _ in self._pool.map(work, items):
            pass
