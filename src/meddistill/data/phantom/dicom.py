"""Phantom pictures as DICOM files: stored values of a scanner's kind and the window that shows them.

A file has no patient: names and dates are empty, and its description says that it is procedural.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

from meddistill.data.phantom.cohort import draw_sample, patient
from meddistill.data.phantom.config import Modality, PhantomConfig
from meddistill.data.phantom.vocabulary import WORDS

_GREYS: Final = 255
_EMPTY: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "Manufacturer",
)  # fmt: skip
_UNITS: Final = ("study", "series", "frame of reference", "instance")


@dataclass(frozen=True, kw_only=True)
class _Storage:
    """How one modality is stored.

    Grey g is the value `lowest + step * g`, in Hounsfield units for CT; the file holds it minus `intercept`
    in `bits` bits. Eight bits go without a window. `inverted` pictures (MONOCHROME1) hold 255 - g.
    """

    sop_class: str
    modality: str
    bits: int
    lowest: int = 0
    step: int = 1
    intercept: int = 0
    inverted: bool = False


_STORAGES: Final[Mapping[Modality, _Storage]] = {
    "xray": _Storage(
        sop_class=ComputedRadiographyImageStorage, modality="CR", bits=12, lowest=120, step=14, inverted=True
    ),
    "ct": _Storage(sop_class=CTImageStorage, modality="CT", bits=12, lowest=-205, step=2, intercept=-1024),
    "mri": _Storage(sop_class=MRImageStorage, modality="MR", bits=12, lowest=30, step=6),
    "ultrasound": _Storage(sop_class=UltrasoundImageStorage, modality="US", bits=8),
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A DICOM file and what it shows: `label` is the modality's class in the phantom's tasks."""

    path: Path
    label: str


def write_test_slices(folder: Path, config: PhantomConfig) -> list[Slice]:
    """One DICOM file for each finding of X-ray, CT, MRI and ultrasound, drawn of patients of the test split.

    Equal configurations give equal bytes. A finding without a patient in the test split has no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    slices: list[Slice] = []
    for sample in _test_samples(config):
        person, drawing = draw_sample(config, sample)
        modality = person.case.modality
        path = folder / f"{len(slices) + 1:02d}.dcm"
        made = _dataset(drawing.image[..., 0], _STORAGES[modality])
        _identify(made, (config.model_dump_json(), str(sample)))
        made.save_as(path, enforce_file_format=True)
        slices.append(Slice(path=path, label=WORDS[modality].label))
    return slices


def _test_samples(config: PhantomConfig) -> list[int]:
    """The first image of the first test patient of each finding, modality by modality."""
    first: dict[tuple[Modality, str], int] = {}
    for sample in range(0, config.samples, config.images_per_patient):
        person = patient(config, sample // config.images_per_patient)
        if person.split == "test":
            first.setdefault((person.case.modality, person.case.finding.label), sample)
    findings = [(modality, each.label) for modality in _STORAGES for each in WORDS[modality].findings]
    return [first[finding] for finding in findings if finding in first]


def _dataset(greys: NDArray[np.uint8], storage: _Storage) -> Dataset:
    made = Dataset()
    made.SOPClassUID = storage.sop_class
    made.Modality = storage.modality
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.SeriesDescription = "Procedural image, no patient"
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME1" if storage.inverted else "MONOCHROME2"
    made.Rows, made.Columns = greys.shape
    made.BitsAllocated = 8 if storage.bits <= 8 else 16
    made.BitsStored, made.HighBit = storage.bits, storage.bits - 1
    made.PixelRepresentation = 0
    shown = _GREYS - greys if storage.inverted else greys
    stored = storage.lowest + storage.step * shown.astype(np.int32) - storage.intercept
    data = stored.astype("u1" if made.BitsAllocated == 8 else "<u2").tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if made.BitsAllocated == 8 else "OW"
    if storage.bits > 8:
        made.RescaleSlope, made.RescaleIntercept = 1, storage.intercept
        # The linear window's lowest value is center - width / 2, its highest center + width / 2 - 1.
        made.WindowWidth = storage.step * _GREYS + 1
        made.WindowCenter = storage.lowest + made.WindowWidth / 2
    return made


def _identify(made: Dataset, seeds: tuple[str, ...]) -> None:
    """UIDs, the same for the same seeds, and the elements that must be there and may be empty."""
    study, series, frame, instance = (generate_uid(entropy_srcs=[*seeds, unit]) for unit in _UNITS)
    made.StudyInstanceUID, made.SeriesInstanceUID = study, series
    made.FrameOfReferenceUID, made.SOPInstanceUID = frame, instance
    for keyword in _EMPTY:
        setattr(made, keyword, "")
    made.SeriesNumber = made.InstanceNumber = 1
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = instance
