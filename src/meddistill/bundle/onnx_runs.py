"""Exported towers as they are run while a bundle is written."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from meddistill.data.loader import ImageBatches
from meddistill.data.samples import Samples
from meddistill.imaging.geometry import Geometry

Array = NDArray[Any]

ROWS_AT_ONCE: Final = 7
_ERRORS_ONLY: Final = 3


def open_session(path: Path) -> Any:
    """A session of ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Array) -> Array:
    """The one output for the one input."""
    outputs: Array = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return outputs


def training_rasters(samples: Samples, geometry: Geometry) -> NDArray[np.uint8]:
    """Rasters [n, h, w, 3] by the path that training takes."""
    batches = ImageBatches(samples, [geometry], batch_size=ROWS_AT_ONCE)
    return np.concatenate([rasters[geometry].numpy() for _, rasters in batches])


def spread(available: int, wanted: int) -> list[int]:
    """`wanted` row numbers, evenly spread; all of them where there are no more."""
    if available <= wanted:
        return list(range(available))
    return [number * available // wanted for number in range(wanted)]
