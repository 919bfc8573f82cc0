"""Run every benchmark and write `benchmarks/RESULTS.md`; exit code 1 if a limit is missed."""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import torch

from benchmarks import (
    allocator,
    balancing,
    bootstrap,
    evaluation,
    extraction,
    phantom,
    start_up,
    store,
    store_opening,
    store_size,
    training,
    webdataset,
)
from benchmarks.measure import Measurement
from meddistill.allocator import keep_freed_memory

MODULES = (
    start_up,
    allocator,
    phantom,
    store,
    store_opening,
    store_size,
    webdataset,
    training,
    balancing,
    extraction,
    bootstrap,
    evaluation,
)
RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    """Measure, write, and say whether all limits hold; benchmarks that are named are printed alone."""
    known = {module.__name__.rpartition(".")[2]: module for module in MODULES}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *known], help="without any, all of them")
    names = parser.parse_args().names
    torch.set_num_threads(1)
    # Both sides of every ratio use memory alike.
    keep_freed_memory()
    found: list[Measurement] = []
    for module in [known[name] for name in names] or MODULES:
        new = module.run()
        found += new
        for each in new:
            print(f"{each.what}: {each.value}, limit {each.limit}", flush=True)
    if not names:
        RESULTS.write_text(_page(found), encoding="utf-8")
    return 0 if all(each.holds for each in found) else 1


def _page(found: list[Measurement]) -> str:
    rows = "\n".join(
        f"| {each.what} | {each.value} | {each.limit} | {'yes' if each.holds else '**no**'} |"
        for each in found
    )
    return f"""# Measured

`make bench`, {time.strftime("%d %B %Y")}, {os.cpu_count()} cores ({platform.machine()}), one thread, Python \
{platform.python_version()}, torch {torch.__version__}.

| what | measured | limit | holds |
|---|---|---|---|
{rows}

Ratios are medians of rounds in which both sides run in turn; absolute times are the best of several.
"""


if __name__ == "__main__":
    sys.exit(main())
