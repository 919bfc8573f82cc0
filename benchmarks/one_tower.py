"""Latency and peak memory of one tower, alone in a process: `python -m benchmarks.one_tower KIND SOURCE`.

An ONNX file is run without torch being imported. Prints JSON: `milliseconds`, the best of the timed passes of
one input on one thread, and `megabytes`, the greatest resident memory (10^6 bytes) of the whole process,
interpreter and libraries included. Linux only: `ru_maxrss` would count the process that started this one.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WARM_UP: Final = 3
PASSES: Final = 20


def main() -> None:
    """Measure what the command line names: `onnx FILE`, or `torch NAME` of a preset or timm tower."""
    kind, source = sys.argv[1:]
    call = {"onnx": _onnx, "torch": _torch}[kind](source)
    seconds = []
    for _ in range(WARM_UP + PASSES):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    print(
        json.dumps({"milliseconds": 1e3 * min(seconds[WARM_UP:]), "megabytes": int(peak[1]) * 1024 / 1e6})
        if peak
        else "{}"
    )


def _onnx(file: str) -> Callable[[], Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    kind = np.int64 if wanted.type == "tensor(int64)" else np.float32
    inputs = {wanted.name: np.ones((1, *wanted.shape[1:]), kind)}
    return lambda: session.run(None, inputs)


def _torch(name: str) -> Callable[[], Any]:
    import torch

    from benchmarks.light_students import example, tower

    torch.set_num_threads(1)
    module, side = tower(name)
    inputs = example(name, side, batch=1)

    def call() -> Any:
        with torch.inference_mode():
            return module(inputs)

    return call


if __name__ == "__main__":
    main()
