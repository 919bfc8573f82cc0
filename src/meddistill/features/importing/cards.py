"""Who the teachers of imported features are, as far as it is known."""

import hashlib
from types import MappingProxyType
from typing import Final

from meddistill.licences import resolve
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.catalogue import CatalogueEntry, catalogue

IMPORTED: Final = "imported"

# Keys of the published dicts → entries of the catalogue.
KNOWN: Final = MappingProxyType(
    {
        "BMCA": "bmc_clip",
        "BiomedCLIP": "biomedclip",
        "PMCCLIP": "pmc_clip",
        "UniMedCLIP": "unimed_clip",
        "QuiltNet": "quiltnet",
        "GenMedClip": "genmedclip",
        "PUBMEDCLIP": "pubmedclip",
        "PLIP": "plip",
        "MedCLIP": "medclip",
    }
)


def entry_of(key: str) -> CatalogueEntry | None:
    """The catalogue's entry of a teacher by its published key; None for one that is not known."""
    return catalogue().get(KNOWN.get(key, ""))


def imported_card(key: str, file: str, dims: tuple[int, int]) -> TeacherCard:
    """The card of a teacher of whom there are vectors alone.

    No weights, preprocessing or tokenizer can be named. The fingerprint stands for the teacher's key and the
    kind of file; the licence is the catalogue's, or unknown.
    """
    entry = entry_of(key)
    return TeacherCard(
        id=key,
        kind="stored",
        source=key if entry is None else entry.name,
        library=IMPORTED,
        weights_sha256=hashlib.sha256(f"{file} {key}".encode()).hexdigest(),
        licence=resolve(None) if entry is None else entry.licence,
        dims={"image": dims[0], "text": dims[1]},
        signals=frozenset({"image", "text"}),
        pretraining_data=() if entry is None else entry.config.pretraining_data,
        options={"file": file},
        parameters=0,
    )
