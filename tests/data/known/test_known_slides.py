"""TCGA features with clinical tables, and PatchCamelyon's HDF5 files."""

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from known_checks import check_suite, kinds, picture, rows, write_csv
from PIL import Image

from meddistill.data.known.outcomes import patient_of, read_outcomes
from meddistill.data.known.prepare import prepare
from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables

PATIENTS = [f"TCGA-AB-{number:04d}" for number in range(40)]
SLIDES = [f"{patient}-01Z-00-DX1.6F1A" for patient in PATIENTS] + [f"{PATIENTS[0]}-01Z-00-DX2.77B0"]


def write_features(folder: Path, slides: list[str] = SLIDES, pictures: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, slide in enumerate(slides):
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["features"] = np.zeros((3, 4), np.float32)
            file["coords"] = np.zeros((3, 2), np.int64)
        if pictures:
            picture(folder.parent / pictures / f"{slide}.jpg", number)


def clinical(number: int) -> tuple[Any, ...]:
    return f"{PATIENTS[number]}", 10.5 + number, number % 2, "LUAD" if number < 20 else "LUSC", 60 + number, 1


def write_clinical(path: Path, count: int = 40) -> None:
    header = "case_id,survival_months,censorship,oncotree_code,age,is_female"
    write_csv(path, header, [clinical(number) for number in range(count)])


def test_slides_of_a_patient_stay_together(tmp_path: Path) -> None:
    base = tmp_path / "in"
    write_features(base / "20x_256px_0px_overlap" / "features_uni_v1", pictures="thumbnails")
    write_clinical(base / "clinical.csv")
    found = prepare("tcga", base, tmp_path / "out")
    table = rows(tmp_path / "out" / "tcga.csv")
    assert len(table) == 41
    two = [row for row in table if row["patient"] == PATIENTS[0]]
    assert len(two) == 2
    assert len({row["split"] for row in two}) == 1
    assert {row["split"] for row in table} == {"train", "validation", "test"}
    assert (two[0]["time_months"], two[0]["event"], two[0]["label"], two[0]["sex"]) == (
        "10.5",
        "1",
        "LUAD",
        "female",
    )
    assert (
        found.notes[0] == "41 slides of 40 patients; stored features: 20x_256px_0px_overlap/features_uni_v1"
    )
    content = check_suite(tmp_path / "out")
    assert kinds(content) == {
        "tcga_diagnosis": "bag_classification",
        "tcga_survival_luad": "survival",
        "tcga_survival_lusc": "survival",
        "tcga_survival": "survival",
    }
    for task in content["tasks"]:
        assert list(task["stored"]) == ["uni_v1"]
        assert (tmp_path / "out" / task["stored"]["uni_v1"] / f"{SLIDES[0]}.h5").is_file()
    assert any(
        "models see one picture a slide, stored features all its tiles" in note for note in found.notes
    )


def test_patients_of_two_projects_are_never_pooled(tmp_path: Path) -> None:
    base = tmp_path / "in"
    slides = [f"TCGA-{'AB'[n % 2]}{n % 5}-{n:04d}-01Z-00-DX1" for n in range(94)]
    write_features(base / "features_uni", slides, pictures="thumbnails")
    projects = ["LUAD"] * 40 + ["GBM"] * 30 + ["FEW"] * 10 + ["ALIVE"] * 12 + [""] * 2
    header = "case_id,survival_months,censorship,oncotree_code,age,is_female"
    lines = [
        (slide[:12], n, int(p == "ALIVE"), p, "", "")
        for n, (slide, p) in enumerate(zip(slides, projects, strict=True))
    ]
    write_csv(base / "clinical.csv", header, lines)
    found = prepare("tcga", base, tmp_path / "out")
    assert {row["site"] for row in rows(tmp_path / "out" / "tcga.csv")} == {
        f"{a}{n}" for a in "AB" for n in range(5)
    }
    content = check_suite(tmp_path / "out")
    tasks = {task["name"]: task for task in content["tasks"]}
    assert set(tasks) == {"tcga_survival_gbm", "tcga_survival_luad", "tcga_survival"}
    assert [task.get("where") for task in tasks.values()] == [
        {"project": "GBM"}, {"project": "LUAD"}, {"project": ["GBM", "LUAD"]}
    ]  # fmt: skip
    assert [task.get("strata") for task in tasks.values()] == [None, None, "project"]
    assert {(task["site"], task["slide"], task["clinical"] == []) for task in tasks.values()} == {
        ("site", "slide", True)
    }
    suite = SuiteConfig.model_validate(content)
    check_tasks(suite, SuiteTables(suite, base=tmp_path / "out"))
    assert "2 slides without a project stand aside of survival" in found.notes
    assert "no survival task for ALIVE, FEW: fewer than 20 patients or 10 deaths" in found.notes


def test_too_few_deaths_and_no_project(tmp_path: Path) -> None:
    write_features(tmp_path / "in" / "h5_files", pictures="masks")
    header = "case_id,survival_months,censorship"
    write_csv(tmp_path / "in" / "c.csv", header, [(PATIENTS[n], n, int(n >= 12)) for n in range(40)])
    found = prepare("tcga", tmp_path / "in", tmp_path / "out")
    (task,) = check_suite(tmp_path / "out")["tasks"]
    assert not {"where", "strata", "site"} & set(task)
    assert any(
        "no project is stated: survival takes all patients for one cohort" in note for note in found.notes
    )
    write_csv(tmp_path / "in" / "c.csv", header, [(PATIENTS[n], n, int(n >= 9)) for n in range(40)])
    found = prepare("tcga", tmp_path / "in", tmp_path / "few")
    assert found.suite is None
    assert "no survival task for the one cohort: fewer than 20 patients or 10 deaths" in found.notes


def test_features_that_lack_slides_are_in_no_task(tmp_path: Path) -> None:
    for folder in ("10x/features_uni", "20x/features_uni"):
        write_features(tmp_path / "in" / folder, pictures="thumbnails")
    write_features(tmp_path / "in" / "20x" / "features_part", SLIDES[1:])
    write_clinical(tmp_path / "in" / "c.csv")
    found = prepare("tcga", tmp_path / "in", tmp_path / "out")
    for task in check_suite(tmp_path / "out")["tasks"]:
        assert set(task["stored"]) == {"10x_features_uni", "20x_features_uni"}
    assert "stored features that lack slides are in no task: 20x/features_part" in found.notes


def test_features_without_pictures_give_a_table_alone(tmp_path: Path) -> None:
    write_features(tmp_path / "in" / "h5_files")
    write_clinical(tmp_path / "in" / "clinical.csv", count=10)
    found = prepare("tcga", tmp_path / "in", tmp_path / "out")
    assert found.suite is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tcga.csv"]
    assert "30 slides left out: their patients are in no clinical table" in found.notes
    assert "no picture a slide was found: the table is written, and no suite" in found.notes


def test_unknown_outcomes_are_left_out_of_survival_alone(tmp_path: Path) -> None:
    write_features(tmp_path / "in" / "h5_files", pictures="masks")
    lines = [
        (PATIENTS[n], "" if n == 3 else n, "LIVING" if n % 2 else "1:DECEASED", "LUAD") for n in range(40)
    ]
    header = "PATIENT_ID,OS_MONTHS,OS_STATUS,CANCER_TYPE_ACRONYM"
    path = tmp_path / "in" / "data_clinical_patient.txt"
    write_csv(path, header, lines, delimiter="\t")
    path.write_text('#Identifier\tAn "explanation\n' + path.read_text().replace("LIVING", "0:LIVING"))
    found = prepare("tcga", tmp_path / "in", tmp_path / "out")
    content = check_suite(tmp_path / "out")
    assert kinds(content) == {"tcga_survival": "survival"}  # one project: nothing to diagnose
    assert content["tables"]["tcga"]["where"] == {"outcome_known": "yes"}
    assert "1 slides of patients without an outcome stand aside of survival" in found.notes


CDR = "bcr_patient_barcode,OS,OS.time,type,gender,age_at_initial_pathologic_diagnosis"
GDC = "case_submitter_id,vital_status,days_to_death,days_to_last_follow_up,project_id,gender,age_at_index"
DAYS = 365.25 / 12


@pytest.mark.parametrize(
    ("name", "header", "line", "expected"),
    [
        ("a.csv", CDR, "TCGA-AB-0001,1.0,365.25,BRCA,FEMALE,61", (12.0, "1", "BRCA", "female", "61")),
        ("a.csv", CDR, "TCGA-AB-0001,#N/A,10,BRCA,,", (None, "", "BRCA", "", "")),
        ("a.tsv", GDC, "TCGA-AB-0001,Dead,30,'--,LUAD,male,70", (30 / DAYS, "1", "LUAD", "male", "70")),
        ("a.tsv", GDC, "TCGA-AB-0001,Alive,'--,60,LUAD,male,'--", (60 / DAYS, "0", "LUAD", "male", "")),
        ("a.tsv", GDC, "TCGA-AB-0001,Alive,'--,-3,LUAD,male,70", (None, "", "LUAD", "male", "70")),
    ],
)
def test_outcomes(tmp_path: Path, name: str, header: str, line: str, expected: tuple[Any, ...]) -> None:
    path = tmp_path / name
    write_csv(path, header, [tuple(line.split(","))], delimiter="\t" if name.endswith(".tsv") else ",")
    found = read_outcomes(path)["TCGA-AB-0001"]
    months, *others = expected
    if months is None:
        assert found["time_months"] == ""
    else:
        assert math.isclose(float(found["time_months"]), months, rel_tol=1e-5)
    assert [found[column] for column in ("event", "project", "sex", "age")] == others


def test_contradictions_and_other_tables_are_refused(tmp_path: Path) -> None:
    header = "case_id,survival_months,censorship"
    write_csv(tmp_path / "a.csv", header, [("TCGA-AB-0001", 3, 0), ("TCGA-AB-0001", 4, 0)])
    with pytest.raises(TableError, match=r"1 rows state another than a row before"):
        read_outcomes(tmp_path / "a.csv")
    write_csv(tmp_path / "b.csv", "x,y", [(1, 2)])
    with pytest.raises(TableError, match=r"must be a clinical table of a known kind"):
        read_outcomes(tmp_path / "b.csv")
    assert patient_of(" tcga-ab-0001-01Z-00-DX1.6F") == "TCGA-AB-0001"


def test_what_a_folder_of_slides_lacks(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match=r"features_<model>/<slide>\.h5"):
        prepare("tcga", tmp_path / "in", tmp_path / "out")
    write_features(tmp_path / "in" / "features_uni", SLIDES[:2])
    with pytest.raises(ConfigError, match=r"a clinical table"):
        prepare("tcga", tmp_path / "in", tmp_path / "out")
    write_csv(tmp_path / "in" / "c.csv", "case_id,survival_months,censorship", [("TCGA-ZZ-0001", 3, 0)])
    with pytest.raises(TableError, match=r"none of them is in it"):
        prepare("tcga", tmp_path / "in", tmp_path / "out")
    write_clinical(tmp_path / "in" / "d.csv")
    with pytest.raises(TableError, match=r"one clinical table; got c\.csv, d\.csv"):
        prepare("tcga", tmp_path / "in", tmp_path / "out")


def write_camelyon(base: Path, *, meta: bool = True) -> dict[str, np.ndarray[Any, Any]]:
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {
        split: rng.integers(0, 256, (4, 96, 96, 3), dtype=np.uint8) for split in ("train", "valid", "test")
    }
    pixels["train"][2] = pixels["test"][1]
    for split, own in pixels.items():
        stem = f"camelyonpatch_level_2_split_{split}"
        with h5py.File(base / f"{stem}_x.h5", "w") as file:
            file["x"] = own
        with h5py.File(base / f"{stem}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 0, 1], np.uint8).reshape(4, 1, 1, 1)
        if meta:
            lines = [(n, 5, 6, True, True, f"camelyon16_{split}_{n // 2:03d}") for n in range(4)]
            header = ",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi"
            write_csv(base / f"{stem}_meta.csv", header, lines)
    return pixels


def test_patch_camelyon(tmp_path: Path) -> None:
    pixels = write_camelyon(tmp_path / "in")
    found = prepare("patch_camelyon", tmp_path / "in", tmp_path / "out")
    assert list(found.notes) == ["1 patches left out of training or validation: tested as well"]
    table = rows(tmp_path / "out" / "patch_camelyon.csv")
    assert [row["label"] for row in table] == ["normal", "tumour", "tumour", *["normal", "tumour"] * 4]
    assert [row["patient"] for row in table[:3]] == [f"camelyon16_train_{n}" for n in ("000", "000", "001")]
    own = [row for row in table if row["split"] == "validation"]
    written = np.stack([np.asarray(Image.open(tmp_path / "out" / row["image"])) for row in own])
    assert (written == pixels["valid"]).all()
    assert set(kinds(check_suite(tmp_path / "out")).values()) == {"zero_shot", "linear_probe", "knn"}


def test_patch_camelyon_without_slides_and_damaged(tmp_path: Path) -> None:
    write_camelyon(tmp_path / "in", meta=False)
    found = prepare("patch_camelyon", tmp_path / "in", tmp_path / "out")
    assert any("intervals count every patch as a patient" in note for note in found.notes)
    assert "patient" not in check_suite(tmp_path / "out")["tables"]["patch_camelyon_test"]
    path = tmp_path / "in" / "camelyonpatch_level_2_split_valid_x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("camelyonpatch_level_2_split_test_x.h5", "x")
    with pytest.raises(TableError, match=r"must hold an array `x`"):
        prepare("patch_camelyon", tmp_path / "in", tmp_path / "other")
    path.write_bytes(b"no HDF5")
    with pytest.raises(TableError, match=r"must be an HDF5 file.*got text"):
        prepare("patch_camelyon", tmp_path / "in", tmp_path / "other")
    path.unlink()
    with pytest.raises(ConfigError, match=r"split_valid_x\.h5; got"):
        prepare("patch_camelyon", tmp_path / "in", tmp_path / "other")
