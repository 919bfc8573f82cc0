"""Deterministic views of a picture: view 0 is the whole, view `k` a crop in another light."""

import hashlib
import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from meddistill.imaging.intensity import Bytes
from meddistill.strict import Strict

Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Strength = Annotated[float, Field(ge=0, le=1)]

# Raised when the same policy gives other views than before: fingerprints then change with it.
RULES_VERSION = 1
_DRAWS = 9


class ViewPolicy(Strict):
    """What a view may change; everything is drawn uniformly within its range."""

    scale: tuple[Share, Share] = (0.5, 1.0)
    """Share of the area that the crop keeps."""
    ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)
    """Width over height of the crop, in units of the image's own; drawn on a logarithmic scale."""
    brightness: Strength = 0.1
    """Largest shift, as a share of the full range."""
    contrast: Strength = 0.2
    """The factor about mid-grey is `1 +- contrast` at most."""
    gamma: Strength = 0.2
    """The exponent is `exp(+- gamma)` at most."""
    horizontal_flip: Strength = 0.0
    """Probability. 0, for which side a finding is on matters, and captions name it."""
    vertical_flip: Strength = 0.0
    """Probability."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> "ViewPolicy":
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                msg = f"`{name}` must not fall; got {(low, high)}."
                raise ValueError(msg)
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 hex of everything that decides a view besides the image and `k`."""
        return hashlib.sha256(f"{RULES_VERSION}|{self.model_dump_json()}".encode()).hexdigest()


def view(image: Bytes, *, image_id: str, index: int, policy: ViewPolicy) -> Bytes:
    """View `index` of a picture `(H, W, 3)`: the picture itself for 0, else a changed crop `(H', W', 3)`.

    The change depends on `image_id`, `index` and `policy` alone: not on the order of calls, the process or
    a library's random generator. The crop is taken at the picture's own resolution; unlike torchvision's
    RandomResizedCrop, a crop that would leave the picture is clipped to it instead of being drawn again.
    """
    if index < 0:
        msg = f"`index` must be 0 or more; got {index}."
        raise ValueError(msg)
    if index == 0:
        return image
    draws = _uniforms(f"{policy.fingerprint}|{index}|{image_id}")
    crop = _crop(image, draws[:4], policy)
    if draws[7] < policy.horizontal_flip:
        crop = crop[:, ::-1]
    if draws[8] < policy.vertical_flip:
        crop = crop[::-1]
    # A byte table over a byte string is several times faster than indexing with an array of bytes.
    changed = bytearray(crop.tobytes()).translate(_tone_curve(draws[4:7], policy).tobytes())
    return np.frombuffer(changed, dtype=np.uint8).reshape(crop.shape)


def _uniforms(seed: str) -> NDArray[np.float64]:
    """Numbers in [0, 1) from a hash: the same on every platform and with every version of NumPy."""
    digest = hashlib.shake_256(seed.encode("utf-8", "surrogatepass")).digest(8 * _DRAWS)
    return (np.frombuffer(digest, dtype="<u8") >> 11).astype(np.float64) * 2.0**-53


def _between(draw: float, low: float, high: float) -> float:
    return low + (high - low) * draw


def _crop(image: Bytes, draws: NDArray[np.float64], policy: ViewPolicy) -> Bytes:
    height, width = image.shape[:2]
    share = _between(draws[0], *policy.scale)
    ratio = math.exp(_between(draws[1], math.log(policy.ratio[0]), math.log(policy.ratio[1])))
    rows = min(height, max(1, round(height * math.sqrt(share / ratio))))
    columns = min(width, max(1, round(width * math.sqrt(share * ratio))))
    top = int(draws[2] * (height - rows + 1))
    left = int(draws[3] * (width - columns + 1))
    return image[top : top + rows, left : left + columns]


def _tone_curve(draws: NDArray[np.float64], policy: ViewPolicy) -> Bytes:
    """The 256 new values: gamma, then contrast about mid-grey, then brightness."""
    gamma = math.exp(_between(draws[0], -policy.gamma, policy.gamma))
    contrast = 1 + _between(draws[1], -policy.contrast, policy.contrast)
    shift = _between(draws[2], -policy.brightness, policy.brightness)
    values = (np.linspace(0, 1, 256) ** gamma - 0.5) * contrast + 0.5 + shift
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
