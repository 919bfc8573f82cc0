"""The arithmetic of the towers' forward pass."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bfloat16 where it is asked for, or where `auto` finds a GPU that has it; None for plain float32."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Autocast to `dtype`, for one forward pass.

    A context must not span a pass without gradient and one with: autocast keeps the weights it has cast, and
    those cast without gradient would cut the second pass off from its parameters.
    """
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
