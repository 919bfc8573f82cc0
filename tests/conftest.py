"""What every test can ask for."""

import functools
import gc
import multiprocessing
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from meddistill.cli import main

# Read when the hub's client is imported: no test may reach for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Read when torch is imported, here and by the processes that tests start: two workers with two threads each
# on two cores wait for one another most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The helpers beside this file, for the processes that tests start.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# The libraries' own objects are a million and live to the end: looking at them again and again for garbage
# takes a sixth of the time.
gc.set_threshold(100_000)
# Tests kill processes, not machines: what a process wrote is there without a wait for the disk.
os.fsync = lambda _: None
# How often the faults of tests/faults are tried, and the seed of their moments and places: drawn anew for
# each session and shown in its header; the same for all of its processes.
os.environ.setdefault("MEDDISTILL_FAULT_REPEATS", "1")
os.environ.setdefault("MEDDISTILL_FAULT_SEED", str(random.SystemRandom().randrange(2**31)))


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries complain at the end


multiprocessing.set_forkserver_preload(["warm"])


@pytest.fixture(scope="session", autouse=True)
def _one_table_of_onnx_functions() -> None:
    """torch makes its table of ONNX functions, two thousand of them, anew for every tower that it exports."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "real"


def pytest_report_header() -> str:
    names = ("MEDDISTILL_FAULT_REPEATS", "MEDDISTILL_FAULT_SEED")
    return "faults: " + " ".join(f"{name}={os.environ[name]}" for name in names)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, for development only; tests that need it skip where it is absent."""
    if not (REAL / "pairs.csv").is_file():
        pytest.skip("the real development images are not here")
    return REAL


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Give a command line in this process; returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
