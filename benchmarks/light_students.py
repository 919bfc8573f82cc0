"""Size, cost and speed of light students, a Markdown table: `python -m benchmarks.light_students [NAME…]`.

Towers have random weights, which change no column; what 8 bits cost in quality depends on the weights and is
measured by the export (`bundle/int8.py`). An image tower is counted and run as it is exported, with
branches for training alone folded; so is the text tower, six layers of width 256 over 77 tokens of CLIP's
vocabulary. Multiply-adds are those of convolutions, matrix products and attention for one input, by torch's
`FlopCounterMode` (which counts two operations for each); the rest (normalisation, activations, sums) is not
counted. Latency and peak memory: `benchmarks/one_tower.py`.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from meddistill.bundle.onnx_export import ImageTower, TextTower, export_image_tower, export_text_tower
from meddistill.bundle.quantize import quantize_image_tower, quantize_text_tower
from meddistill.bundle_format import TOWER_FILES
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder

TEXT: Final = "text"
STUDENTS: Final[dict[str, dict[str, object]]] = {
    "nano (MobileNetV4 small)": {"preset": "nano"},
    "lite (EfficientNet-Lite0)": {"preset": "lite"},
    "edge (MobileNetV4 medium)": {"preset": "edge"},
    "repvit_m0_9": {"image_tower": "repvit_m0_9", "embed_dim": 256},
    "efficientvit_b0": {"image_tower": "efficientvit_b0", "embed_dim": 256},
    "efficientvit_b1": {"image_tower": "efficientvit_b1", "embed_dim": 256},
    "vit_tiny_patch16_224": {"image_tower": "vit_tiny_patch16_224", "embed_dim": 256},
    TEXT: {"preset": "nano"},
}
_HEADER: Final = (
    "| tower | input | parameters, M | multiply-adds, M "
    "| form | on disk, MB | peak memory, MB | latency, ms |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """One tower in one form; megabytes are 10^6 bytes."""

    form: str
    disk: float
    memory: float
    milliseconds: float


def main() -> None:
    """Print the table, row by row."""
    names = sys.argv[1:] or list(STUDENTS)
    print(
        f"{time.strftime('%d %B %Y')}, {os.cpu_count()} cores ({platform.machine()}), one thread, one input, "
        f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}.\n\n{_HEADER}"
    )
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for line in _lines(name, Path(folder)):
                print(line, flush=True)


def tower(name: str) -> tuple[nn.Module, int]:
    """The tower as it is exported, and the side of its images (of the text tower: its tokens)."""
    student = _student(name)
    if name == TEXT:
        return TextTower(student).eval(), student.context_length
    return ImageTower(student).eval(), student.input.height


def example(name: str, side: int, *, batch: int) -> Tensor:
    """An input; of texts, one that fills the context."""
    if name == TEXT:
        return torch.full((batch, side), 320, dtype=torch.int64)
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


@cache
def _student(name: str) -> DualEncoder:
    config = StudentConfig.model_validate(STUDENTS[name])
    return build_student(config, base=Path(), seed=0).eval()


def _lines(name: str, folder: Path) -> list[str]:
    module, side = tower(name)
    total = sum(each.numel() for each in module.parameters())
    millions = f"{total / 1e6:.2f}"
    if name == TEXT:
        table = _student(name).model.text.token_embedding.weight.numel()
        millions = f"{total / 1e6:.2f}, without the token table {(total - table) / 1e6:.2f}"
    pixels = "77 tokens" if name == TEXT else f"{side} px"
    facts = f"{name} | {pixels} | {millions} | {_multiply_adds(module, example(name, side, batch=1)):,.0f}"
    return [
        f"| {facts if not number else ' | | |'} | {row.form} | {row.disk:.1f} | {row.memory:.0f} "
        f"| {row.milliseconds:.1f} |"
        for number, row in enumerate(_rows(name, module, side, folder))
    ]


def _rows(name: str, module: nn.Module, side: int, folder: Path) -> list[Row]:
    student = _student(name)
    if name == TEXT:
        export_text_tower(student, folder, metadata={})
        quantize_text_tower(folder)
    else:
        export_image_tower(student, folder, metadata={})
        quantize_image_tower(folder, calibration=example(name, side, batch=4).numpy())
    weights = sum(each.numel() * each.element_size() for each in module.state_dict().values()) / 1e6
    files = {"ONNX": TOWER_FILES["float32"], "ONNX int8": TOWER_FILES["int8"]}
    rows = [Row("PyTorch", weights, **_measured("torch", name))]
    for form, towers in files.items():
        path = folder / (towers.text if name == TEXT else towers.image)
        rows.append(Row(form, path.stat().st_size / 1e6, **_measured("onnx", str(path))))
    return rows


def _multiply_adds(module: nn.Module, inputs: Tensor) -> float:
    """Millions. With gradients: without them torch's attention takes a path that is not counted."""
    with FlopCounterMode(display=False) as counter:
        module(inputs)
    return counter.get_total_flops() / 2 / 1e6


def _measured(kind: str, source: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.one_tower", kind, source]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    return {"memory": told["megabytes"], "milliseconds": told["milliseconds"]}


if __name__ == "__main__":
    main()
