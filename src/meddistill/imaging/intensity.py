"""Grey values of any depth to eight bits."""

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
    scaled = (values.astype(np.float64) - low) * (255.0 / (high - low))
    np.clip(scaled, 0, 255, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def stretch_window(values: Grey, window: tuple[float, float]) -> Bytes:
    """Map `centre - width / 2` to 0 and `centre + width / 2` to 255 (DICOM's LINEAR_EXACT)."""
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
    finite = np.isfinite(values)
    if finite.all():
        out = hidden
    elif options.non_finite == "refuse" or not finite.any():
        raise _not_finite(path)
    else:
        values = np.where(finite, values, 0)
        out = ~finite if hidden is None else ~finite | hidden
    if options.window is not None:
        grey = stretch_window(values, options.window)
    else:
        grey = stretch_percentiles(values, None if out is None else ~out, options.percentiles)
    if out is not None:
        grey[out] = 0
    return grey


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
