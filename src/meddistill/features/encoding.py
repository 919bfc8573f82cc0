"""A teacher's float32 numbers to the stored ones, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meddistill.errors import NonFiniteError, StoreError
from meddistill.features.config import StoredPrecision

FLOAT16_MAX: Final = 65504.0
_INT8_MAX: Final = 127


@dataclass(frozen=True)
class Encoded:
    """Stored numbers: float16 or float32 `values`; or int8 `values` that stand for values · `scale`."""

    values: NDArray[np.generic]
    scale: NDArray[np.float32] | None = None


def encode(
    values: Tensor,
    precision: StoredPrecision,
    *,
    leading: int,
    subject: str,
    named: Callable[[Sequence[int]], str],
) -> Encoded:
    """Round `values` `[batch, ...]` to the stored precision on their own device, then fetch them.

    int8: m = max |x| over the axes after the first `leading` ones, stored q = round(127 x / m) and scale
    m / 127, so that |x - q · scale| <= m / 254.

    Parameters
    ----------
    leading
        Axes that have scales of their own: 1 for rows, 2 for rows and views.
    subject
        Whose numbers these are, for messages.
    named
        What elements of the batch, by their positions in it, are called in messages.

    Raises
    ------
    NonFiniteError
        If the teacher gave NaN or infinity.
    StoreError
        If a finite number is beyond float16.
    """
    if precision == "int8":
        whole, scale = _quantized(values.float(), leading)
        encoded, checked = Encoded(whole, scale), scale
    else:
        checked = (values.half() if precision == "float16" else values.float()).cpu().numpy()
        encoded = Encoded(checked)
    if not np.isfinite(checked).all():
        _refuse(values, subject, named)
    return encoded


def decoded(values: NDArray[np.generic], scale: NDArray[np.float32] | None) -> NDArray[np.generic]:
    """The numbers as read: float16 and float32 as they are stored, int8 as float32."""
    if scale is None:
        return values
    axes = (1,) * (values.ndim - scale.ndim)
    return values.astype(np.float32) * scale.reshape(*scale.shape, *axes)


def _quantized(values: Tensor, leading: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scale = values.abs().flatten(leading).amax(dim=-1) / _INT8_MAX
    divisor = torch.where(scale > 0, scale, 1.0).reshape(*scale.shape, *(1,) * (values.ndim - leading))
    whole = (values / divisor).round().clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8)
    return whole.cpu().numpy(), scale.cpu().numpy()


def _refuse(values: Tensor, subject: str, named: Callable[[Sequence[int]], str]) -> None:
    bad = ~torch.isfinite(values).flatten(1).all(dim=1)
    if bad.any():
        msg = (
            f"{subject} must be finite; got NaN or infinity for {named(_places(bad))}. Look at these "
            "images and captions, or run the teacher in float32."
        )
        raise NonFiniteError(msg)
    large = (values.abs() > FLOAT16_MAX).flatten(1).any(dim=1)
    msg = (
        f"{subject} must fit float16 (at most {FLOAT16_MAX:.0f}); got {values.abs().max().item():.4g} for "
        f"{named(_places(large))}. Set `features: {{precision: float32}}`."
    )
    raise StoreError(msg)


def _places(chosen: Tensor) -> list[int]:
    places: list[int] = chosen.nonzero().flatten().tolist()
    return places
