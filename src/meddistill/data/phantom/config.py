"""How many phantom images, of what, how large."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from meddistill.strict import Strict

Modality = Literal[
    "xray", "ct", "mri", "ultrasound", "fundus", "oct", "dermatology", "histology", "endoscopy"
]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


class PhantomConfig(Strict):
    """A phantom data set, whole: equal configurations give equal files, byte for byte.

    `samples` images of `size` x `size` pixels. Patients have one modality and one finding each, and
    `images_per_patient` images; the last patient may have fewer. Image i and its texts depend on `seed`, i,
    `size`, `modalities` and `images_per_patient` only, so a larger `samples` continues a smaller one.
    """

    samples: int = Field(gt=0, le=10_000_000)
    seed: int = Field(default=0, ge=0)
    size: int = Field(default=64, ge=32, le=1024)
    modalities: tuple[Modality, ...] = MODALITIES
    images_per_patient: int = Field(default=2, ge=1, le=100)

    @field_validator("modalities")
    @classmethod
    def _distinct(cls, value: tuple[Modality, ...]) -> tuple[Modality, ...]:
        if not value or len(set(value)) != len(value):
            msg = (
                f"`modalities` must name one or more modalities, each once; got {list(value)}. "
                f"Choose among {', '.join(MODALITIES)}."
            )
            raise ValueError(msg)
        return value
