"""Two processes on this machine that train together."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from meddistill.training.processes import Processes
from toy_training import ON_CPU


def run_two(work: Callable[..., None], *arguments: Any) -> None:
    """`work(rank, *arguments)` in two processes, each with one thread and a launcher's environment.

    They are forked as in `forked`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(
        _join, args=(port, work, arguments), nprocs=2, start_method="forkserver"
    )


def _join(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    work(rank, *arguments)
    Processes(cpu=ON_CPU and torch.cuda.is_available()).leave()
