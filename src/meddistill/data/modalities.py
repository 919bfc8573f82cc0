"""Which names of modalities say that images are medical."""

from collections.abc import Iterable
from typing import Final

# The names that the known data sets and the phantoms use, common others, and codes of DICOM's `Modality`.
MEDICAL: Final = frozenset(
    {
        "angiography", "ct", "dermatology", "dermoscopy", "echocardiography", "endoscopy", "fundus",
        "histology", "histopathology", "mammography", "microscopy", "mri", "oct", "pathology", "pet",
        "radiograph", "radiography", "ultrasound", "xray",
        "cr", "dx", "es", "mg", "mr", "nm", "op", "opt", "pt", "rf", "sm", "us", "xa",
    }
)  # fmt: skip


def medical_modalities(modalities: Iterable[str]) -> tuple[str, ...]:
    """Those of `modalities` that are known as medical, sorted; case, hyphens and spaces do not matter."""
    return tuple(
        sorted(name for name in set(modalities) if "".join(filter(str.isalnum, name.lower())) in MEDICAL)
    )
