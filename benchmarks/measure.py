"""How a benchmark times and what it reports."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line of RESULTS.md. `holds` says whether `value` keeps `limit`; both are words with units."""

    what: str
    value: str
    limit: str
    holds: bool


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call, with what it left to do on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(first: Callable[[], object], second: Callable[[], object], *, rounds: int) -> float:
    """Median over rounds of time(first) / time(second), the two in turn, after one round that warms up."""
    ratios = [seconds(first) / seconds(second) for _ in range(rounds + 1)][1:]
    return statistics.median(ratios)
