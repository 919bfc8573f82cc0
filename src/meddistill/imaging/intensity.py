"""Grey values of any depth to eight bits."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import ImageError
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.refusal import refusal

Grey = NDArray[Any]  # whatever number type the file stores
Mask = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


def stretch(values: Grey, low: float, high: float) -> Bytes:
    """Map `low` to 0 and `high` to 255, linearly, rounded and clipped.

    Where `high` does not exceed `low` there is no contrast to show and the result is black.
    """
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = np.clip(values.astype(np.float64), low, high)
    scaled -= low
    scaled /= high - low
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def rescaled(stored: Grey, slope: float, intercept: float, ends: tuple[float, float]) -> Grey:
    """`slope * stored + intercept`, or the stored values themselves where that makes no sense.

    It makes none where it is not finite at the `ends` of the range, or gives values there that are apart the
    same number: a slope of 0, NaN, or too small beside its intercept. An intercept that is not finite counts
    as 0.
    """
    intercept = intercept if math.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0) or slope == 0 or not math.isfinite(slope):
        return stored
    low, high = ends
    step = max(1.0, math.ulp(high), math.ulp(low)) if np.issubdtype(stored.dtype, np.integer) else high - low
    values = [slope * value + intercept for value in (low, low + step, high - step, high)]
    if not all(map(math.isfinite, values)) or (high > low and len({*values[:2]}) + len({*values[2:]}) < 4):
        return stored
    return stored.astype(np.float64) * slope + intercept


def stretch_window(values: Grey, window: tuple[float, float]) -> Bytes:
    """`((x - centre) / width + 0.5) * 255`, rounded and clipped: LINEAR_EXACT of PS3.3 C.11.2.1.3.2."""
    centre, width = window
    return stretch(values, centre - width / 2, centre + width / 2)


def stretch_percentiles(values: Grey, shown: Mask | None, percentiles: tuple[float, float]) -> Bytes:
    """Map two percentiles of the `shown` values (None: all) to 0 and 255.

    A picture that is nearly all background has both percentiles on one value; its extremes are used then.
    """
    sample = values if shown is None else values[shown]
    if sample.size == 0:
        return np.zeros(values.shape, dtype=np.uint8)
    low, high = np.percentile(sample, percentiles)
    if not high > low:
        low, high = np.percentile(sample, (0, 100))
    return stretch(values, float(low), float(high))


def show_grey(path: ImageFile, values: Grey, options: DecodeOptions, *, hidden: Mask | None = None) -> Bytes:
    """Deep grey as eight bits by `options`: the window if one is given, else percentiles.

    `hidden` values (padding) and, where allowed, non-finite ones have no part in the percentiles and are
    black.
    """
    values, out = finite_values(path, values, options, hidden=hidden)
    if options.window is not None:
        grey = stretch_window(values, options.window)
    else:
        grey = stretch_percentiles(values, None if out is None else ~out, options.percentiles)
    if out is not None:
        grey[out] = 0
    return grey


def finite_values(
    path: ImageFile, values: Grey, options: DecodeOptions, *, hidden: Mask | None
) -> tuple[Grey, Mask | None]:
    """Values with 0 for those that are not finite, and what to hide: these beside the `hidden`.

    Raises ImageError where `options` refuse them, or where no value is finite.
    """
    finite = np.isfinite(values)
    if finite.all():
        return values, hidden
    if options.non_finite == "refuse" or not finite.any():
        raise _not_finite(path)
    return np.where(finite, values, values.dtype.type(0)), ~finite if hidden is None else ~finite | hidden


def three_channels(grey: Bytes) -> Bytes:
    """Repeat a grey picture `(H, W)` into `(H, W, 3)`."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _not_finite(path: ImageFile) -> ImageError:
    return refusal(
        path,
        must="hold finite values",
        got="NaN or infinity",
        do="Mend the file, or set `non_finite` to `black` if they mark the background.",
    )
