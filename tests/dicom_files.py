"""DICOM files made for tests, with planted names, dates and identifiers."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PLANTED = {
    "PatientName": "Zyxwvut^Planted",
    "PatientID": "PLANTED-4711",
    "PatientBirthDate": "19370203",
    "StudyDate": "20190817",
    "InstitutionName": "Hospital of Planting",
    "AccessionNumber": "ACC998877",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.31337",
}


def dataset(pixels: np.ndarray, **elements: object) -> Dataset:
    """A data set of `(H, W)`, `(frames, H, W)` or, with SamplesPerPixel=3, `(H, W, 3)` integers."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    for keyword, value in PLANTED.items():
        setattr(made, keyword, value)
    samples = int(elements.get("SamplesPerPixel", 1))
    frames = pixels.ndim == (3 if samples == 1 else 4)
    made.SamplesPerPixel = samples
    made.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        made.PlanarConfiguration = 0
    if frames:
        made.NumberOfFrames = pixels.shape[0]
    made.Rows, made.Columns = pixels.shape[frames : frames + 2]
    made.BitsAllocated = made.BitsStored = pixels.dtype.itemsize * 8
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    if pixels.nbytes % 2:
        made.PixelData += b"\0"
    made["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def write(folder: Path, made: Dataset, name: str = "made.dcm") -> Path:
    """Save a data set as a DICOM file."""
    path = folder / name
    made.save_as(path, enforce_file_format=True)
    return path
