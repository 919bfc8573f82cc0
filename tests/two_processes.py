"""Two processes on this machine that train together."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch

from forked import Forked
from meddistill.cli import main
from meddistill.training.processes import Processes
from toy_training import ON_CPU


def run_two(work: Callable[..., None], *arguments: Any) -> None:
    """`work(rank, *arguments)` in two processes, each with one thread and a launcher's environment.

    They are forked as in `forked`.
    """
    torch.multiprocessing.start_processes(
        _join, args=(_free_port(), work, arguments), nprocs=2, start_method="forkserver"
    )


def command_in_two(*arguments: str) -> list[tuple[int, str, str]]:
    """A command line in two processes with torchrun's environment: each one's code, stdout and stderr."""
    port = _free_port()
    with Forked(_command, 0, port, arguments) as first, Forked(_command, 1, port, arguments) as second:
        return [first.ended(), second.ended()]


def _command(rank: int, port: int, arguments: tuple[str, ...]) -> int:
    _set_place(rank, port)
    return main(list(arguments))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _set_place(rank: int, port: int) -> None:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ.update(place, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def _join(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _set_place(rank, port)
    torch.set_num_threads(1)
    work(rank, *arguments)
    Processes(cpu=ON_CPU and torch.cuda.is_available()).leave()
