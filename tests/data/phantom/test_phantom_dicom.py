"""Phantom slices as DICOM: what pydicom and the project's own decoder make of them."""

from collections import Counter

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from meddistill.data.phantom.cohort import draw_sample, patient
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.dicom import write_test_slices
from meddistill.imaging import ImageRef, decode

CONFIG = PhantomConfig(samples=400, seed=3)
SOP_CLASSES = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}
LABELS = {"CR": "chest X-ray", "CT": "abdominal CT", "MR": "brain MRI", "US": "abdominal ultrasound"}


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return write_test_slices(tmp_path_factory.mktemp("slices") / "new", CONFIG)


def _test_pictures():
    """The grey pictures of all patients of the test split, as the phantom draws them."""
    shown = {}
    for sample in range(CONFIG.samples):
        person = patient(CONFIG, sample // CONFIG.images_per_patient)
        if person.split == "test" and person.case.modality in ("xray", "ct", "mri", "ultrasound"):
            shown[draw_sample(CONFIG, sample)[1].image.tobytes()] = person.case
    return shown


def test_they_show_one_test_patient_of_each_finding_grey_for_grey(slices):
    known = _test_pictures()
    cases = [known[decode(ImageRef(each.path)).tobytes()] for each in slices]
    assert Counter(case.modality for case in cases) == dict.fromkeys(("xray", "ct", "mri", "ultrasound"), 3)
    assert len({(case.modality, case.finding.label) for case in cases}) == 12


def test_a_file_says_what_it_holds_and_names_nobody(slices):
    for each in slices:
        header = dcmread(each.path)
        assert header.SOPClassUID == header.file_meta.MediaStorageSOPClassUID == SOP_CLASSES[header.Modality]
        assert each.label == LABELS[header.Modality]
        assert (header.Rows, header.Columns) == (CONFIG.size, CONFIG.size)
        assert header.BitsAllocated == (8 if header.Modality == "US" else 16)
        named = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "ReferringPhysicianName")
        assert not any(header[keyword].value for keyword in named)
    assert len({dcmread(each.path).SOPInstanceUID for each in slices}) == len(slices)


def test_pydicoms_own_window_shows_the_same(slices):
    for each in slices:
        header = dcmread(each.path)
        if header.Modality == "US":
            continue
        stored = header.pixel_array
        assert np.ptp(stored) > 255
        values = apply_voi_lut(apply_modality_lut(stored, header), header)
        low = header.WindowCenter - header.WindowWidth / 2
        step = (header.WindowWidth - 1) / 255
        greys = (apply_modality_lut(stored, header) - low) / step
        assert greys.min() >= 0
        assert greys.max() <= 255
        shown = decode(ImageRef(each.path))[..., 0].astype(float)
        shown = 255 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown
        assert np.abs(greys - shown).max() < 0.5
        assert np.corrcoef(values.ravel(), shown.ravel())[0, 1] > 0.9999


def test_equal_configurations_give_equal_files(slices, tmp_path):
    again = write_test_slices(tmp_path, CONFIG)
    assert [each.path.read_bytes() for each in again] == [each.path.read_bytes() for each in slices]
