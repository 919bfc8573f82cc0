"""A teacher that costs next to nothing, so that a store of many rows is made in seconds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from meddistill.imaging import InputSpec
from meddistill.teachers.config import PythonTeacher
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher


class LinearTeacher(nn.Module):
    """Random linear maps of 4 x 4 pooled pixels and of the counts of letters."""

    input = InputSpec(height=16, width=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, dim, generator=torch.Generator().manual_seed(seed)))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """`[n, 3, 16, 16]` to `[n, dim]`."""
        return nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1) @ self.weight

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """`n` captions to `[n, dim]`."""
        counts = [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return torch.tensor(counts, dtype=torch.float32) @ self.weight[:26]


def build(dim: int, seed: int) -> LinearTeacher:
    """The factory that the adapter `python` calls."""
    return LinearTeacher(dim, seed)


def load_linear_teachers(number: int, *, dim: int) -> dict[str, FrozenTeacher]:
    """`teacher_0`, `teacher_1`, …"""
    factory = "benchmarks.linear_teacher:build"
    configs = {
        f"teacher_{seed}": PythonTeacher(kind="python", factory=factory, options={"dim": dim, "seed": seed})
        for seed in range(number)
    }
    return {name: load_teacher(name, config, base=Path()) for name, config in configs.items()}
