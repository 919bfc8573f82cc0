"""Work prepared ahead of its use: in a thread of this process, or in other processes."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import Any, Protocol, Self, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from meddistill.errors import UserError

Request = TypeVar("Request", contravariant=True)
Prepared = TypeVar("Prepared", covariant=True)

_AHEAD = 2
_CLEAN = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"


class Preparer(Protocol[Request, Prepared]):
    """Turns a request into what was asked for; the result depends on the request alone."""

    def prepare(self, request: Request) -> Prepared:
        """The answer to one request."""
        ...

    def for_workers(self, workers: int) -> Self:
        """What is sent to each of several processes; must be picklable."""
        ...


class Prefetcher:
    """Answers of a `Preparer` in the order of the requests, two of them prepared while one is used.

    `workers` 0 prepares in a thread of this process, where decoding and resampling release the interpreter's
    lock. More are processes of their own, forked from one without threads (`forkserver`), or started by
    `spawn` where a system has no forks: forking a process with threads can deadlock, and breaks CUDA. They
    stay for further requests until `close`. Both ways give the same answers.
    """

    def __init__(self, preparer: Preparer[Any, Any], *, workers: int) -> None:
        self._preparer = preparer
        self._requests = _Requests()
        self._loader = None if workers == 0 else _processes(preparer, self._requests, workers)

    def results(self, requests: Iterable[Any]) -> Iterator[Any]:
        """The answer to each request, which is drawn when its turn to be prepared comes.

        A new call ends an earlier one that was not finished.
        """
        if self._loader is None:
            yield from self._threaded(requests)
            return
        self._requests.current = requests
        for answer in self._loader:
            if isinstance(answer, _Failure):
                raise answer.error()
            yield answer

    def close(self) -> None:
        """End the worker processes."""
        self._loader = None

    def _threaded(self, requests: Iterable[Any]) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="meddistill-ahead") as thread:
            try:
                for request in requests:
                    waiting.append(thread.submit(self._preparer.prepare, request))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                thread.shutdown(wait=True, cancel_futures=True)


class _Requests:
    """What the worker processes are asked next; a sampler whose content changes between epochs."""

    current: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.current)


@dataclass(frozen=True)
class _Failure:
    """A user's mistake found in a worker; DataLoader itself would hand on a traceback as the message."""

    kind: type[UserError]
    message: str

    def error(self) -> UserError:
        """The error as it was; made past `__init__`, whose arguments differ from class to class."""
        return self.kind.__new__(self.kind, self.message)


class _Answers(Dataset[Any]):
    def __init__(self, preparer: Preparer[Any, Any]) -> None:
        self._preparer = preparer

    def __getitem__(self, request: Any) -> Any:
        try:
            return self._preparer.prepare(request)
        except UserError as error:
            return _Failure(type(error), str(error))


def _processes(preparer: Preparer[Any, Any], requests: _Requests, workers: int) -> DataLoader[Any]:
    return DataLoader(
        _Answers(preparer.for_workers(workers)),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        collate_fn=_same,
        multiprocessing_context=_CLEAN,
        persistent_workers=True,
        prefetch_factor=_AHEAD,
        worker_init_fn=_one_thread,
        # Of its own, or starting an epoch would move the global generator, which the student's dropout uses.
        generator=torch.Generator(),
    )


def _same(answer: Any) -> Any:
    return answer


def _one_thread(_: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
