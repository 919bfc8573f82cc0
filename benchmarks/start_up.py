"""`import meddistill` and `meddistill --help`: a user waits for them."""

import subprocess
import sys
from functools import partial

from benchmarks.measure import Measurement, seconds

LIMIT = 0.5


def run() -> list[Measurement]:
    """The fastest of five starts each."""
    found = []
    for what, arguments in {
        "import meddistill": ["-c", "import meddistill"],
        "--help": ["-m", "meddistill", "--help"],
    }.items():
        start = partial(subprocess.run, [sys.executable, *arguments], capture_output=True, check=True)
        best = min(seconds(start) for _ in range(5))
        found.append(
            Measurement(
                what=f"start-up: {what}", value=f"{best:.2f} s", limit=f"< {LIMIT} s", holds=best < LIMIT
            )
        )
    return found
