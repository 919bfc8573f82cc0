"""Which image of a file is meant, and how intensities become eight bits."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from meddistill.imaging.file_part import ImageFile
from meddistill.strict import Strict

Percent = Annotated[float, Field(ge=0, le=100)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]

# Raised when the same file and options give other pixels than before: image keys then change with it.
RULES_VERSION = 3


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image: a file, or a file in a tar, and which picture of it.

    `frame` selects a frame of a DICOM file, a page of a TIFF or a volume of a 4-D NIfTI; `axis` (0 sagittal,
    1 coronal, 2 axial) and `slice` select a slice of a NIfTI volume in canonical orientation. All count from
    0; None means the kind's default. A selector that a kind does not have is refused when decoding.
    """

    path: ImageFile
    frame: int | None = None
    axis: int | None = None
    slice: int | None = None


class DecodeOptions(Strict):
    """How intensities become eight bits, and how large a file may be.

    Grey values of at most 8 bits are shown as they are. Deeper ones are windowed, by the first of: `window`
    (centre, width) here, in the file's own units (Hounsfield for CT); the file's VOI window or VOI LUT
    (DICOM); `percentiles` of the picture shown, mapped to 0 and 255.
    """

    window: tuple[FiniteFloat, PositiveFloat] | None = None
    """Centre and width, in the file's own units (Hounsfield for CT), for all grey values deeper than 8 bits.
    """
    percentiles: tuple[Percent, Percent] = (0.5, 99.5)
    """Of the picture shown, mapped to 0 and 255, where neither `window` nor the file's own window says more.
    """
    non_finite: Literal["refuse", "black"] = "refuse"
    """A NIfTI slice or float DICOM with NaN or infinity is refused, or shows these values black."""
    max_pixels: int = Field(default=100_000_000, gt=0, le=178_000_000)  # Pillow itself refuses more
    """The largest picture (rows x columns); checked on the header, before anything is decoded."""
    max_voxels: int = Field(default=2**30, gt=0)
    """The largest volume (rows x columns x slices or frames); likewise."""

    @model_validator(mode="after")
    def _percentiles_rise(self) -> "DecodeOptions":
        if not self.percentiles[0] < self.percentiles[1]:
            msg = f"`percentiles` must rise; got {self.percentiles}."
            raise ValueError(msg)
        return self

    def pixels_depend_on(self) -> dict[str, object]:
        """What of the options changes pixels; part of the image key."""
        return self.model_dump(mode="json", exclude={"max_pixels", "max_voxels"})


DEFAULT_OPTIONS = DecodeOptions()
