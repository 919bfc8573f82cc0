"""The exported towers in 8 bits, by ONNX Runtime's own quantization."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, final

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from meddistill.bundle.onnx_export import quiet
from meddistill.bundle.onnx_runs import Array
from meddistill.bundle_format import IMAGE_MODEL, IMAGE_MODEL_INT8, TEXT_MODEL, TEXT_MODEL_INT8

_BATCH: Final = 4
# Signed weights, a scale a channel, 7 of the 8 bits: on CPUs without VNNI the sum of two products of full
# range saturates, and a bundle has to give the same numbers on both.
_WEIGHTS: Final[dict[str, Any]] = {
    "per_channel": True,
    "reduce_range": True,
    "weight_type": QuantType.QInt8,
}


def quantize_image_tower(folder: Path, *, calibration: Array) -> None:
    """Write `onnx/image_int8.onnx` beside `onnx/image.onnx`: static quantization in QDQ form.

    Weights and activations are in 8 bits, but for the first convolution, which sees the pixels.

    Parameters
    ----------
    folder
        Holds the float towers.
    calibration
        Normalised pixels [n, 3, h, w], from which the ranges of the activations come. Only the least and the
        greatest value of each activation over all of them enters the file.
    """
    with quiet():
        quantize_static(
            folder / IMAGE_MODEL,
            folder / IMAGE_MODEL_INT8,
            _Pixels(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=_first_convolution(folder / IMAGE_MODEL),
            **_WEIGHTS,
        )


def quantize_text_tower(folder: Path) -> None:
    """Write `onnx/text_int8.onnx` beside `onnx/text.onnx`: dynamic quantization.

    Weights and token table are stored in 8 bits; ranges of the activations are found when it runs.
    """
    with quiet():
        quantize_dynamic(folder / TEXT_MODEL, folder / TEXT_MODEL_INT8, **_WEIGHTS)


def _first_convolution(path: Path) -> list[str]:
    graph = onnx.load(path).graph
    return [node.name for node in graph.node if node.op_type == "Conv"][:1]


@final
class _Pixels(CalibrationDataReader):
    def __init__(self, pixels: Array) -> None:
        self._batches: Iterator[Array] = iter(
            [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
        )

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}
