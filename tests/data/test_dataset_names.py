"""Names of data sets: spellings that mean the same, and those that do not."""

import pytest
from pydantic import TypeAdapter, ValidationError

from meddistill.data.datasets import DatasetName, dataset_key, shared_datasets


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MIMIC-CXR", "mimic_cxr"),
        ("MIMIC-CXR", "MIMIC CXR JPG"),
        ("Quilt-1M", "quilt1m"),
        ("NIH-CXR", "ChestX-ray14"),
        ("ChestX-ray8", "chestxray14"),
        ("OpenI", "IU X-ray"),
        ("ROCO", "ROCOv2"),
        ("LC25000", "lc-25000"),
    ],
)
def test_spellings_of_one_data_set(one: str, other: str) -> None:
    assert dataset_key(one) == dataset_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("CheXpert", "ChestX-ray14"), ("PMC-OA", "PMC-15M"), ("VinDr-CXR", "VinDr-Mammo")]
)
def test_different_data_sets_stay_different(one: str, other: str) -> None:
    assert dataset_key(one) != dataset_key(other)


def test_what_two_lists_share_is_told_once_as_the_first_spells_it() -> None:
    trained = ["PadChest", "MIMIC-CXR", "MIMIC-CXR-JPG", "CheXpert"]
    assert shared_datasets(["mimic cxr", "CHEXPERT", "RSNA"], trained) == ("CHEXPERT", "mimic cxr")
    assert shared_datasets([], trained) == ()
    assert shared_datasets(["RSNA"], trained) == ()


def test_a_blank_name_is_refused() -> None:
    adapter = TypeAdapter(DatasetName)
    assert adapter.validate_python(" CheXpert ") == "CheXpert"
    for blank in ("", " - "):
        with pytest.raises(ValidationError, match="must be the name of a data set"):
            adapter.validate_python(blank)
