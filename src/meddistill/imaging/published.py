"""What libraries publish of a model's preprocessing, in our words."""

from collections.abc import Mapping
from typing import Any, Final

from meddistill.imaging.geometry import Interpolation

Triple = tuple[float, float, float]

# By the name that torchvision and timm write, or the number that PIL and transformers do.
_INTERPOLATIONS: Final[Mapping[object, Interpolation]] = {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
    2: "bilinear",
    3: "bicubic",
}


def known_interpolation(value: object) -> Interpolation | None:
    """The resampling that a library calls `value`; None for one that is not ours."""
    return _INTERPOLATIONS.get(getattr(value, "value", value))


def pixel_scale(settings: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Mean and std, on the scale 0 to 1, of the settings of an image processor of transformers.

    (x·f − m) / s = (x/255 − m/255f) / (s/255f) for its factor f of rescaling.
    """
    factor = 255.0 * float(settings["rescale_factor"]) if settings.get("do_rescale") else 255.0
    factor = 1.0 if abs(factor - 1.0) < 1e-6 else factor
    if settings.get("do_normalize"):
        mean, std = list(settings["image_mean"]), list(settings["image_std"])
    else:
        mean, std = [0.0] * 3, [1.0] * 3
    scaled = [value / factor for value in (*mean, *std)]
    return (scaled[0], scaled[1], scaled[2]), (scaled[3], scaled[4], scaled[5])
