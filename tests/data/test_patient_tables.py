"""Columns of a table of patients beside those of the images."""

from pathlib import Path

import pytest
from PIL import Image

from meddistill.data.config import TableConfig
from meddistill.data.table import read_table
from meddistill.errors import TableError


def _write(
    folder: Path, patients: str, images: str = "image,who,age\na.png,p1,old\nb.png,p2,old\na.png,p3,old\n"
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (2, 2)).save(folder / name)
    (folder / "images.csv").write_text("image,who,age\na.png,p1,old\nb.png,p2,old\na.png,p3,old\n")
    (folder / "patients.csv").write_text(patients)


def _config(**changes: object) -> TableConfig:
    known = {"table": "images.csv", "patient": "who", "patients": {"table": "patients.csv", "patient": "id"}}
    return TableConfig.model_validate({**known, **changes})


def test_columns_are_joined_by_patient(tmp_path: Path) -> None:
    _write(tmp_path, "id,sex,age\np2, m ,70\np1,f,60\n")
    found = read_table(_config(), base=tmp_path, columns=["sex", "age"])
    assert found.columns["sex"] == ("f", "m", "")  # nobody is p3
    assert found.columns["age"] == ("old", "old", "old")  # the image table's own column
    kept = read_table(_config(where={"sex": "m"}), base=tmp_path)
    assert kept.patients == ("p2",)


def test_other_values_change_the_hash_of_the_table(tmp_path: Path) -> None:
    hashes = set()
    for sex in ("f", "m"):
        _write(tmp_path, f"id,sex\np1,{sex}\n")
        hashes.add(read_table(_config(modality="sex"), base=tmp_path).table_hash)
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("patients", "words"),
    [
        ("id,sex\np1,f\np1,m\n", "`id` must name every patient once; one stands again in row 2"),
        ("id,sex\np1,f\n,m\n", "`id` must name a patient; it is blank in row 2"),
        ("name,sex\np1,f\n", "`patients.patient` must name a column; got `id`, the table has `name`, `sex`"),
        ("id,sex\np1,f,x\n", "row 1: the row must have at most 2 cells"),
    ],
)
def test_refused_tables_of_patients(tmp_path: Path, patients: str, words: str) -> None:
    _write(tmp_path, patients)
    with pytest.raises(TableError, match=words) as caught:
        read_table(_config(), base=tmp_path, columns=["sex"])
    assert "p1" not in str(caught.value)


def test_a_column_of_neither_table_is_refused_with_both_named(tmp_path: Path) -> None:
    _write(tmp_path, "id,sex\np1,f\n")
    with pytest.raises(TableError, match=r"`grade` must be a column.*`age`.*`sex`"):
        read_table(_config(), base=tmp_path, columns=["grade"])


def test_patients_are_joined_by_a_named_column() -> None:
    with pytest.raises(ValueError, match="`patient` must name the column by which `patients` is joined"):
        _config(patient=None)
